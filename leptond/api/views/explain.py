"""Reasons why jobs wait, computed by the planner itself on the snapshot of the request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from leptond import schema
from leptond.api.http.context import Context
from leptond.api.views import bodies, outline
from leptond.core.access.rights import Rights, Sight
from leptond.core.jobs.model import Attempt, Job, Reason, State
from leptond.core.scheduling.forecast import Eta, is_foreseeable
from leptond.core.scheduling.overdue import Turn, turn
from leptond.core.scheduling.planner import Plan, Wait
from leptond.core.scheduling.wait_reasons import unforeseen
from leptond.store import Connection
from leptond.store.planning import snapshot
from leptond.store.planning.candidates import WINDOW
from leptond.store.planning.forecast import QUICK_WINDOW
from leptond.store.planning.outlook import Outlook
from leptond.store.queue import compact_arrays, lists, never


class Explain:
    """Reasons for the jobs of one snapshot, and the jobs as a caller may see them. The plan is
    made only if a job needs it, and once for all readers."""

    def __init__(
        self, db: Connection, context: Context, unhealthy: Mapping[str, str], rights: Rights
    ) -> None:
        self._rights = rights
        self._db = db
        self._context = context
        self._unhealthy = unhealthy
        self._outlook: Outlook | None = None
        self.now = context.clock.wall()
        self.boot = context.clock.boot()

    def _planned(self, *, anew: bool = False) -> Outlook:
        if self._outlook is None or (anew and self._outlook.boot < self.boot):
            self._outlook = self._context.forecasts.outlook(
                self._db,
                now=self.now,
                boot=self.boot,
                unhealthy=self._unhealthy,
                cpu_slots=self._context.settings.cpu_slots(),
                policy=self._context.settings.policy(),
                anew=anew,
            )
        return self._outlook

    def planned(self, window: int) -> Plan:
        """Return the plan for the first `window` jobs."""
        return self._planned().plan(self._db, window)

    def starts_at(self, job: Job) -> float | None:
        """Return the likely start of a pending job in UTC seconds, as far as a short simulation reaches."""
        if job.state is not State.PENDING or snapshot.why_not_ready(job, now=self.now, boot=self.boot):
            return None
        found = self._planned().starts(self._db).get(job.id)
        return found.start_at if found is not None else None

    def eta(self, job: Job) -> Eta | None:
        """Return the expected start of a pending job with its uncertainty."""
        if job.state is not State.PENDING or snapshot.why_not_ready(job, now=self.now, boot=self.boot):
            return None
        return self._planned().eta(self._db, job.id)

    def unforeseen(self, job: Job, wait: Wait | None) -> str | None:
        """Return why the start of a pending job cannot be foretold; None when it can, or only the wait
        itself says it."""
        if wait is None or wait.reason not in (Reason.RESOURCES, Reason.PRIORITY):
            return None
        inputs = self._planned().inputs(self._db, WINDOW)
        unknown = [one.id for one in inputs.running if not is_foreseeable(one)]
        unknown = [one for one in wait.blockers if one in unknown] or unknown
        return unforeseen([inputs.refs.get(one, str(one)) for one in unknown[:3]])

    def add_members(self, shown: Sequence[schema.Job]) -> None:
        """Add to jobs that stand for their arrays how many members of those have not ended, by state."""
        counts = lists.members(self._db, {job.array_id for job in shown if job.array_id is not None})
        for job in shown:
            if job.array_id is not None:
                job.members = counts[job.array_id]

    def wait(self, job: Job) -> Wait | None:
        """Return the reason why `job` waits; None if it does not."""
        if job.state is not State.PENDING:
            return None
        early = snapshot.why_not_ready(job, now=self.now, boot=self.boot)
        if early is not None:
            if early.reason is Reason.DEPENDENCY_NEVER:
                return msgspec.structs.replace(early, sentence=never.sentence(self._db, job))
            return early
        found = self._in_plan(job)
        made = self._planned()
        if found is None and snapshot.why_not_ready(job, now=made.now, boot=made.boot) is not None:
            # it has become ready since the plan for other readers
            self._planned(anew=True)
            found = self._in_plan(job)
        if found is not None:
            return found
        return Wait(reason=Reason.PRIORITY, sentence=f"more than {WINDOW} jobs stand before it in the queue")

    def _in_plan(self, job: Job) -> Wait | None:
        # a plan for a job does not depend on those after it: the short window is enough for one within it
        for window in (QUICK_WINDOW, WINDOW):
            seen = self.planned(window)
            wait = seen.waits.get(job.id)
            if wait is not None:
                return wait
            if any(start.id == job.id for start in seen.starts):
                if job.begin_at is not None:
                    sentence = "its begin time has come: it is being started"
                    return Wait(reason=Reason.BEGIN_TIME, sentence=sentence)
                return Wait(reason=Reason.RESOURCES, sentence="it is being started")
            if job.array_id is not None and compact_arrays.at(self._db, job.id) is not None:
                break  # more members of its own array are before it than a plan covers
        return None

    def turn(self, job: Job, wait: Wait | None) -> Turn | None:
        """Return until when others may start before `job`; None if it waits for something else than GPUs."""
        if wait is None or wait.reason not in (Reason.RESOURCES, Reason.PRIORITY):
            return None
        inputs = self._planned().inputs(self._db, WINDOW)
        found = next((one for one in inputs.waiting if one.id == job.id), None)
        return turn(found, inputs) if found is not None else None

    def refs(self, wait: Wait | None) -> list[str]:
        """Return what people call the jobs that are in the way."""
        if wait is None:
            return []
        named = lists.refs(self._db, wait.blockers)
        return [named.get(job_id, str(job_id)) for job_id in wait.blockers]

    def show(self, job: Job, attempts: Sequence[Attempt]) -> schema.Job:
        """Return a job as HTTP shows it to this caller."""
        sight = self._rights.sight(job.user, job.project)
        if sight is Sight.OUTLINE:
            return outline.outline(job, attempts, now=self.now, boot=self.boot, starts_at=self.starts_at(job))
        shown = self._in_full(job, attempts)
        return shown if sight is Sight.ALL else outline.details(shown)

    def _in_full(self, job: Job, attempts: Sequence[Attempt]) -> schema.Job:
        return bodies.job(
            job,
            attempts,
            now=self.now,
            boot=self.boot,
            wait=self.wait(job),
            starts_at=self.starts_at(job),
            jobs_dir=self._context.jobs_dir,
            checkpoints_dir=self._context.checkpoints_dir,
        )
