"""Why jobs wait, at the moment of asking: the planner itself is asked, on the reader's own snapshot."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from leptond.api import types, views
from leptond.api.context import Context
from leptond.core.forward import Eta, Forecast
from leptond.core.model import Attempt, Job, Reason, State
from leptond.core.planner import Plan, Wait, plan
from leptond.store import planning
from leptond.store.forecast import QUICK_WINDOW, Ahead, ahead


class Explain:
    """Reasons for the jobs of one snapshot; the plan is made once, and only if a job needs it."""

    def __init__(self, db: sqlite3.Connection, context: Context, sick: Mapping[str, str]) -> None:
        self._db = db
        self._context = context
        self._sick = sick
        self._plan: Plan | None = None
        self._starts: Mapping[int, Forecast] | None = None
        self.now = context.clock.wall()
        self.boot = context.clock.boot()

    @property
    def plan(self) -> Plan:
        """What the planner would do now."""
        if self._plan is None:
            slots = self._context.settings.cpu_slots()
            policy = planning.rules(self._db, self._context.settings.policy())
            view = planning.view(self._db, now=self.now, boot=self.boot, sick=self._sick, policy=policy)
            memory = planning.recall(self._db)
            self._plan = plan(view.waiting, view.running, view.gpus, slots, self.now, policy, memory)
        return self._plan

    def _ahead(self, window: int) -> Ahead:
        return ahead(
            self._db,
            now=self.now,
            boot=self.boot,
            sick=self._sick,
            cpu_slots=self._context.settings.cpu_slots(),
            policy=self._context.settings.policy(),
            window=window,
        )

    def starts_at(self, job: Job) -> float | None:
        """When a pending job is likely to start, as far as a short forward run tells."""
        if job.state is not State.PENDING or planning.why_not_ready(job, now=self.now, boot=self.boot):
            return None
        if self._starts is None:
            self._starts = self._ahead(QUICK_WINDOW).starts()
        found = self._starts.get(job.id)
        return found.start_at if found is not None else None

    def eta(self, job: Job) -> Eta | None:
        """When a pending job starts, with the uncertainty of that."""
        if job.state is not State.PENDING or planning.why_not_ready(job, now=self.now, boot=self.boot):
            return None
        return self._ahead(planning.WINDOW).etas(until=job.id).get(job.id)

    def wait(self, job: Job) -> Wait | None:
        """Why `job` waits; None when it does not."""
        if job.state is not State.PENDING:
            return None
        early = planning.why_not_ready(job, now=self.now, boot=self.boot)
        if early is not None:
            return early
        wait = self.plan.waits.get(job.id)
        if wait is not None:
            return wait
        if any(start.id == job.id for start in self.plan.starts):
            return Wait(reason=Reason.RESOURCES, sentence="it is being started")
        return Wait(
            reason=Reason.PRIORITY, sentence=f"more than {planning.WINDOW} jobs stand before it in the queue"
        )

    def show(self, job: Job, attempts: Sequence[Attempt]) -> types.Job:
        """The job as HTTP shows it."""
        return views.job(
            job,
            attempts,
            now=self.now,
            boot=self.boot,
            wait=self.wait(job),
            starts_at=self.starts_at(job),
            jobs_dir=self._context.jobs_dir,
            checkpoints_dir=self._context.checkpoints_dir,
        )
