"""Plain values of the planner: its input, and what it decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from leptond.base.section import NotNegative, Positive, Section
from leptond.core.jobs.model import DEFAULT_QUEUE, Gpu, Reason
from leptond.core.scheduling.fair_share import Fairness, Limits

PolicyName = Literal["auto", "fifo", "firstfit", "shortest", "easy", "throughput"]


class PlannerFigures(Section, frozen=True, kw_only=True):
    """The figures of the policies; the defaults are measured on traces, and a change is for those who
    measure. `priority_step_s`: the waiting time that one step of priority is worth. `class_gpu_s`: the
    GPU-seconds under which a job counts as short. `min_run_s`: the least run before a preemption, raised to
    `min_run_factor` times what the preemption costs in work and start-up; `eviction_cost_s` is taken for
    that until it has been measured. `overdue_s`, `overdue_factor`, `overdue_max_s`: a job is overdue once it
    has waited for longer than both `overdue_s` and `overdue_factor` times its expected run, at the latest
    after `overdue_max_s`. `overdue_share`: the share of GPU time that is put aside for overdue jobs.
    `overdue_batch_s`: how much of it is put aside at most, in seconds of the whole machine, and for how much
    overdue jobs go first at a time; a smaller job waits for its own size only. `overdue_batch_gpu_s`: the
    same in GPU-seconds, whatever the machine, in place of `overdue_batch_s`. `unknown_run_s`: the expected
    run of a job that has neither a history nor a limit."""

    priority_step_s: NotNegative = 4 * 3600.0
    class_gpu_s: NotNegative = 2 * 3600.0
    min_run_s: NotNegative = 300.0
    min_run_factor: NotNegative = 20.0
    eviction_cost_s: NotNegative = 60.0
    overdue_s: NotNegative = 3600.0
    overdue_factor: NotNegative = 160.0
    overdue_max_s: NotNegative = 14 * 86400.0
    overdue_share: Annotated[float, Meta(ge=0, le=1)] = 0.25
    overdue_batch_s: NotNegative = 4 * 3600.0
    overdue_batch_gpu_s: NotNegative | None = None
    unknown_run_s: Positive = 86400.0


class Policy(PlannerFigures, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The policy that decides, and its figures. All times are in seconds, so that a scaled-down machine can
    run with scaled-down figures.

    Where jobs can be preempted, a job is overdue after a quarter of `overdue_factor`. `paused`: nothing
    starts.
    `max_bypass_s`: for `firstfit`, how long other jobs may start before one that does not fit until GPUs are
    reserved for it (0: without limit). `limits`: caps of users and projects. `fairness`: figures of fair
    share."""

    name: PolicyName = "auto"
    paused: bool = False
    max_bypass_s: NotNegative = 0.0
    limits: Limits = Limits()
    fairness: Fairness = Fairness()


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A pending job that could start as far as it alone is concerned.

    `since`: wall time from which it could. `avoid`: UUIDs of GPUs that an earlier attempt failed on.
    `limit_s`: time limit. `predicted_s`: run time predicted from its history. `attained_gpu_s`: GPU time of
    its earlier attempts. `gpu_type`, `gpu_memory_bytes`, `exclusive` and `borrow`: see
    :class:`leptond.core.scheduling.placement.Need`. `eviction_cost_s`: expected loss of a preemption, the
    following start included (None: not measured). `handicap_s`: what fair share adds to its place in the
    queue, in seconds of waiting. `order_keys`: the stored
    :class:`leptond.core.scheduling.order_keys.OrderKeys`; None: computed by the planner."""

    id: int
    priority: int
    gpus: int
    since: float
    user: str = ""
    project: str | None = None
    queue: str = DEFAULT_QUEUE
    array_id: int | None = None
    array_limit: int | None = None
    avoid: Sequence[str] = ()
    gpu_type: str | None = None
    gpu_memory_bytes: int | None = None
    exclusive: bool = False
    borrow: bool = False
    preemptible: bool = False
    urgent: bool = False
    limit_s: float | None = None
    predicted_s: float | None = None
    attained_gpu_s: float = 0.0
    eviction_cost_s: float | None = None
    handicap_s: float = 0.0
    order_keys: tuple[float, int, float, float, float] | None = None


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A job that holds GPUs (UUIDs) or, without any, a CPU slot.

    `share_bytes`: memory it has of each of its GPUs, the rest of which others may have; None: whole GPUs.
    `started_at`: wall time at which this attempt was given them. `stopping`: it has been asked to stop, so
    that its GPUs are about to come free. `reported_left_s`: what is left of it by its own reports; only
    forecasts look at it. Other fields as in :class:`Waiting`."""

    id: int
    gpus: Sequence[str]
    array_id: int | None = None
    user: str = ""
    project: str | None = None
    queue: str = DEFAULT_QUEUE
    share_bytes: int | None = None
    exclusive: bool = False
    priority: int = 0
    since: float = 0.0
    started_at: float = 0.0
    preemptible: bool = False
    urgent: bool = False
    stopping: bool = False
    limit_s: float | None = None
    predicted_s: float | None = None
    attained_gpu_s: float = 0.0
    eviction_cost_s: float | None = None
    handicap_s: float = 0.0
    reported_left_s: float | None = None


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Start job `id` on these GPUs (UUIDs; none: in a CPU slot)."""

    id: int
    gpus: Sequence[str]


class Preempt(msgspec.Struct, frozen=True, kw_only=True):
    """Preempt running job `id` for job `for_id`: it is asked to save its work, and queued again."""

    id: int
    for_id: int


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """GPUs reserved for job `id`, which needs `needs` of them.

    `at`: wall time at which it can start even if every running job takes its whole limit; None where a
    running job has no limit. `gpus`: how many free GPUs are idle for its sake."""

    id: int
    needs: int
    at: float | None
    gpus: int


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """The reason why a job does not start, and one sentence that names what is in the way.

    `blockers`: ids of jobs that hold what it needs or are before it in the queue."""

    reason: Reason
    sentence: str
    blockers: Sequence[int] = ()


class CarriedState(msgspec.Struct, frozen=True, kw_only=True):
    """State that one plan carries over to the next.

    `owed_gpu_s`: GPU time that was put aside for overdue jobs at `owed_at` (wall time; None: nothing has
    been given out yet), negative after jobs that took more. `granted_gpu_s`: GPU time given out since then,
    by expected runs. `serving_overdue`: overdue jobs go first. See :mod:`leptond.core.scheduling.overdue`.
    Stored as JSON between passes."""

    owed_gpu_s: float = 0.0
    owed_at: float | None = None
    granted_gpu_s: float = 0.0
    serving_overdue: bool = msgspec.field(default=False, name="batch")


class PlanInput(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a plan depends on: equal inputs give equal plans.

    `waiting`: the pending jobs to choose from, in any order. `running`: all jobs that hold GPUs or CPU slots.
    `gpus`: all present ones. `cpu_slots`: how many jobs without GPUs may run at a time. `now`: wall time.
    `policy`: with the limits in force. `carried`: the state carried over from the last plan. `refs`: what
    people call the jobs that are members of arrays, by id, for the sentences of the reasons."""

    waiting: Sequence[Waiting] = ()
    running: Sequence[Running] = ()
    gpus: Sequence[Gpu]
    cpu_slots: int
    now: float
    policy: Policy = Policy()
    carried: CarriedState = CarriedState()
    refs: Mapping[int, str] = {}

    def free_capacity(self, starts: Sequence[Start] = ()) -> FreeCapacity:
        """Return what is free beside the running jobs and `starts`."""
        taken = {uuid for job in self.running for uuid in job.gpus}
        taken |= {uuid for start in starts for uuid in start.gpus}
        in_slots = sum(1 for job in self.running if not job.gpus) + sum(1 for one in starts if not one.gpus)
        return FreeCapacity(
            gpus=sum(1 for gpu in self.gpus if gpu.schedulable and gpu.uuid not in taken),
            slots=max(0, self.cpu_slots - in_slots),
            shared=len({uuid for job in self.running if job.share_bytes is not None for uuid in job.gpus}),
        )


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions of one pass.

    `starts`: in order. `waits`: for every other job of the window, if asked for. `wake_at`: wall time at
    which a further pass is worthwhile even if nothing happens."""

    starts: Sequence[Start]
    waits: Mapping[int, Wait]
    preempts: Sequence[Preempt] = ()
    reservations: Sequence[Reservation] = ()
    carried: CarriedState = CarriedState()
    wake_at: float | None = None


class FreeCapacity(msgspec.Struct, frozen=True, kw_only=True):
    """Free capacity: GPUs in service without a holder, and CPU slots.

    `shared`: GPUs with holders of shares, so that further shares may be free."""

    gpus: int
    slots: int
    shared: int = 0

    def __bool__(self) -> bool:
        return self.gpus > 0 or self.slots > 0 or self.shared > 0
