"""Why jobs wait, at the moment of asking: the planner itself is asked, on the reader's own snapshot."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from leptond.api import types, views
from leptond.api.context import Context
from leptond.core.model import Attempt, Job, Reason, State
from leptond.core.planner import Plan, Wait, plan
from leptond.store import planning


class Explain:
    """Reasons for the jobs of one snapshot; the plan is made once, and only if a job needs it."""

    def __init__(self, db: sqlite3.Connection, context: Context, sick: Mapping[str, str]) -> None:
        self._db = db
        self._context = context
        self._sick = sick
        self._plan: Plan | None = None
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
            jobs_dir=self._context.jobs_dir,
            checkpoints_dir=self._context.checkpoints_dir,
        )
