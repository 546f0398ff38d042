"""The reading half of a scheduling pass: everything that it needs of the database, from one snapshot, with
the plan that is made of it. What follows from it is in scheduler.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from leptond.base.clock import Clock
from leptond.config import Settings
from leptond.core.accounting.ledger import IdleCause
from leptond.core.jobs.model import Job
from leptond.core.scheduling.handover import Line, Outlook
from leptond.core.scheduling.planner import PlanInput
from leptond.core.scheduling.standby import Prepared
from leptond.store import Connection
from leptond.store.accounting import ledger
from leptond.store.planning import snapshot, successors
from leptond.store.planning.job_cache import JobCache


class PassView(msgspec.Struct, frozen=True, kw_only=True):
    """The view of one pass, taken at `at` (wall time).

    `inputs`: what was planned with. `starting`: the jobs that start. `wanted`: the jobs that are likely to
    start next, the likeliest first. `jobs`: those, the starting ones and the prepared ones, by id, as far as
    they wait. `outlook`: the lines of successors, if nothing is to be carried out first. `stops`: attempt id,
    reason and grace in seconds of the attempts that have to stop. `next_wake_s`: until the next back-off or
    begin time is over. `stored_cause` and `released_at`: for the ledger, what it has and when GPUs last came
    free."""

    at: float
    decided: snapshot.Decided
    inputs: PlanInput
    starting: Sequence[Job]
    wanted: Sequence[Job]
    jobs: Mapping[int, Job]
    outlook: Outlook
    stops: Sequence[tuple[str, str, float]]
    next_wake_s: float | None
    stored_cause: tuple[IdleCause, str]
    released_at: float | None


class PassReader:
    """Reads for the passes of one scheduler. `unhealthy` gives the devices that do not answer, with the
    reason; `places`: of prepared attempts."""

    def __init__(
        self, clock: Clock, settings: Settings, unhealthy: Callable[[], Mapping[str, str]], places: int
    ) -> None:
        self._clock = clock
        self._policy = settings.policy()
        self._cpu_slots = settings.cpu_slots()
        self._unhealthy = unhealthy
        self._places = places
        self._jobs = JobCache()

    def read(
        self,
        db: Connection,
        version: int | None,
        prepared_jobs: Sequence[int],
        prepared: Mapping[int, Prepared],
    ) -> PassView:
        """Plan for this moment. `version`: of the store when it was asked for; `prepared_jobs`: the ids of
        all prepared jobs."""
        now, boot, unhealthy = self._clock.wall(), self._clock.boot(), dict(self._unhealthy())
        inputs = snapshot.plan_machine(
            db, now=now, boot=boot, unhealthy=unhealthy, cpu_slots=self._cpu_slots, policy=self._policy
        )
        decided = snapshot.decide_on(db, inputs, boot=boot)
        starting = {start.id for start in decided.plan.starts}
        line: list[int] = []
        if self._places and inputs.running:
            inputs = snapshot.first_waiting(db, inputs, boot=boot)
            line = snapshot.next_in_line(inputs, places=self._places + len(starting))
            line = [job_id for job_id in line if job_id not in starting]
        jobs = self._jobs.pending(db, {*line, *prepared_jobs, *starting})
        wake_s = snapshot.next_wake(db, now=now, boot=boot)
        # else the machine is about to change
        lines = self.lines(db, inputs, prepared, jobs, wake_s) if decided.empty else []
        return PassView(
            at=now,
            decided=decided,
            inputs=inputs,
            starting=[jobs[job_id] for job_id in starting if job_id in jobs],
            wanted=[jobs[job_id] for job_id in line if job_id in jobs],
            jobs=jobs,
            outlook=Outlook(lines=lines, unhealthy=unhealthy),
            stops=snapshot.stops(db),
            next_wake_s=wake_s,
            stored_cause=ledger.newest_idle_cause(db),
            released_at=ledger.newest_release(db),
        )

    def lines(
        self,
        db: Connection,
        inputs: PlanInput,
        prepared: Mapping[int, Prepared],
        jobs: Mapping[int, Job],
        wake_s: float | None,
    ) -> list[Line]:
        """Choose the lines of successors. `jobs`: those that wait, by id; `wake_s`: until the next back-off
        or begin time is over."""
        until = inputs.now + (math.inf if wake_s is None else wake_s)
        chosen = successors.choose(db, inputs, prepared, most=self._places)
        return [
            msgspec.structs.replace(line, until=min(line.until, until))
            for line in successors.still_valid(chosen, jobs)
        ]
