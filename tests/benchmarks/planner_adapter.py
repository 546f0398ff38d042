"""leptond's own planner behind the interface of an outside simulator of GPU queues.

Each factory takes no argument and returns an object with ``plan(pending, running, free_gpus, now)``, which
answers with ("start", id), ("preempt", id) and ("wake", t). The jobs of that simulator have `submit`,
`gpus`, `est` (the limit), `pred` (a predicted run, the limit where there is none), `prio`, `attained`
(seconds of service), `seq`. Which of them can be preempted is a hash of `seq`, as the simulator's own
policies have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from leptond.core.jobs.model import Gpu
from leptond.core.scheduling.order_keys import order_keys
from leptond.core.scheduling.planner import CarriedState, PlanInput, Policy, Running, Start, Waiting, plan

Action = tuple[str, Any]

PREEMPTION_LOSES_S = 120.0
"""The simulator's default charge for a preemption: what leptond would have measured."""


class Adapter:
    """One policy over one run, with what the daemon's database would hold: order keys of the jobs, the GPUs
    that each holds and since when, and the state that plans carry over."""

    def __init__(self, policy: Policy, share: float = 0.0, cost_s: float | None = PREEMPTION_LOSES_S) -> None:
        self.policy = policy
        self.share = share
        self.cost_s = cost_s
        self.carried = CarriedState()
        self._waiting: dict[str, Waiting] = {}
        self._began: dict[str, tuple[float, list[str], float]] = {}
        self._gpus: list[Gpu] = []

    def preemptible(self, job: Any) -> bool:
        """Return True if this job can resume: las50's hash of ids."""
        return bool((job.seq * 2654435761 % 4294967296) / 4294967296 < self.share)

    def plan(self, pending: Sequence[Any], running: Sequence[Any], free: int, now: float) -> list[Action]:
        """Plan one pass over the queue, and after preemptions one more over what has come free."""
        if not self._gpus:
            count = free + sum(job.gpus for job in running)
            self._gpus = [Gpu(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=1) for i in range(count)]
        names = {job.seq: job.job_id for job in [*pending, *running]}
        jobs = {job.job_id: job for job in [*pending, *running]}
        waiting = {job.seq: self._wait(job) for job in pending}
        holders = {job.seq: self._run(job) for job in running}
        actions: list[Action] = []
        while True:
            inputs = PlanInput(
                waiting=list(waiting.values()),
                running=list(holders.values()),
                gpus=self._gpus,
                cpu_slots=0,
                now=now,
                policy=self.policy,
                carried=self.carried,
            )
            made = plan(inputs, explain=False)
            self.carried = made.carried
            for preempt in made.preempts:
                holder = holders.pop(preempt.id)
                job = jobs[names[preempt.id]]
                del self._began[job.job_id]
                self._waiting.pop(job.job_id, None)
                waiting[job.seq] = self._wait(job)
                actions.append(("preempt", job.job_id))
                assert holder.preemptible
            for start in made.starts:
                self._start(start, jobs[names[start.id]], now)
                del waiting[start.id]
                holders[start.id] = self._run(jobs[names[start.id]])
                actions.append(("start", names[start.id]))
            if not made.preempts:
                break
        if made.wake_at is not None:
            actions.append(("wake", made.wake_at + 1e-3))
        return actions

    def _start(self, start: Start, job: Any, now: float) -> None:
        self._began[job.job_id] = (now, list(start.gpus), job.attained)
        self._waiting.pop(job.job_id, None)

    def _wait(self, job: Any) -> Waiting:
        found = self._waiting.get(job.job_id)
        if found is None:
            found = Waiting(
                id=job.seq,
                priority=job.prio,
                gpus=job.gpus,
                since=job.submit,
                preemptible=self.preemptible(job),
                limit_s=job.est,
                predicted_s=job.pred if job.pred != job.est else None,
                attained_gpu_s=job.attained * job.gpus,
                eviction_cost_s=self.cost_s,
            )
            found = structs.replace(found, order_keys=order_keys(found, self.policy))
            self._waiting[job.job_id] = found
        return found

    def _run(self, job: Any) -> Running:
        began, gpus, attained = self._began[job.job_id]
        return Running(
            id=job.seq,
            gpus=gpus,
            priority=job.prio,
            since=job.submit,
            started_at=began,
            preemptible=self.preemptible(job),
            limit_s=job.est,
            predicted_s=job.pred if job.pred != job.est else None,
            attained_gpu_s=attained * job.gpus,
            eviction_cost_s=self.cost_s,
        )


def auto() -> Adapter:
    """The default; no job can be preempted."""
    return Adapter(Policy())


def auto_half() -> Adapter:
    """The default; half of the jobs can be preempted."""
    return Adapter(Policy(), share=0.5)


def auto_all() -> Adapter:
    """The default; every job can be preempted."""
    return Adapter(Policy(), share=1.0)


def fifo() -> Adapter:
    """Strictly in order of submission."""
    return Adapter(Policy(name="fifo"))


def firstfit() -> Adapter:
    """In order of submission, what does not fit is passed over for as long as it takes."""
    return Adapter(Policy(name="firstfit", max_bypass_s=0.0))


def shortest() -> Adapter:
    """Shortest limit first."""
    return Adapter(Policy(name="shortest"))


def easy() -> Adapter:
    """EASY backfill."""
    return Adapter(Policy(name="easy"))


def throughput() -> Adapter:
    """LAS with the shortest first among the long; every job can be preempted."""
    return Adapter(Policy(name="throughput"), share=1.0)
