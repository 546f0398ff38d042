"""What the planner looks at and what it decides: plain values, with no way of their own."""

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
    that until it has been measured. `overdue_s`, `overdue_factor`: a job is overdue once it has waited for
    longer than both the one and the other times its expected run. `overdue_share`: the share of GPU-time
    that overdue jobs are owed; they get it in batches of `overdue_batch_gpu_s`. `unknown_run_s`: the
    expected run of a job that has neither a history nor a limit."""

    priority_step_s: NotNegative = 4 * 3600.0
    class_gpu_s: NotNegative = 2 * 3600.0
    min_run_s: NotNegative = 300.0
    min_run_factor: NotNegative = 20.0
    eviction_cost_s: NotNegative = 60.0
    overdue_s: NotNegative = 3600.0
    overdue_factor: NotNegative = 160.0
    overdue_share: Annotated[float, Meta(ge=0, le=1)] = 0.25
    overdue_batch_gpu_s: NotNegative = 32 * 3600.0
    unknown_run_s: Positive = 86400.0


class Policy(PlannerFigures, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The policy that decides, and its figures. All times are seconds, so that a scaled-down machine can be
    run with scaled-down figures.

    A job that other jobs can make room for is overdue only after four times as long; overdue jobs get their
    batches the oldest first. `paused`: nothing starts. `max_bypass_s`: for `firstfit`, how long a job may be
    passed over before GPUs are kept for it (0: as long as it takes). `limits`: the caps of users and
    projects; `fairness`: the figures of fair share."""

    name: PolicyName = "auto"
    paused: bool = False
    max_bypass_s: NotNegative = 0.0
    limits: Limits = Limits()
    fairness: Fairness = Fairness()


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A pending job that could start, as far as it alone is concerned.

    `since` is when it became able to (wall time); `avoid` names a GPU that an earlier attempt failed on.
    `limit_s` is its wall-clock limit, `predicted_s` its run time as its history tells it, `attained_gpu_s`
    the GPU-time of its earlier attempts. What it asks of its GPUs (`gpu_type`, `gpu_memory_bytes`,
    `exclusive`) and whether its queue may `borrow`: see :class:`leptond.core.scheduling.placement.Need`.
    `eviction_cost_s` is what a preemption of it is expected to lose,
    with the start that follows (None: nobody has measured it). `handicap_s` is what fair share adds to its
    place in the queue, in seconds of waiting. `rank` is its place in the queue where that is stored already
    (:class:`leptond.core.scheduling.order_keys.OrderKeys`); else the planner works it out.
    """

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
    """A job that holds GPUs (by UUID) or, with none, a CPU slot.

    `share_bytes`: it has so much memory of each of its GPUs, and others may have the rest; None: it has
    them whole. `started_at` is when this attempt was given them (wall time). `stopping`: it has been told to
    stop, so its GPUs come free without more ado.
    """

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


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Start job `id` on these GPUs (UUIDs; none: in a CPU slot)."""

    id: int
    gpus: Sequence[str]


class Preempt(msgspec.Struct, frozen=True, kw_only=True):
    """Running job `id` makes room for job `for_id`: it is told to save its work, and queued again."""

    id: int
    for_id: int


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """GPUs are kept for job `id`, which can start at `at` (wall time) at the latest if every running job
    takes its whole limit; None where a running job has no limit. `gpus` of the free ones are idle for its
    sake."""

    id: int
    needs: int
    at: float | None
    gpus: int


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job does not start: a reason of the closed list, and one sentence that names what is in the
    way. `blockers` are the ids of jobs that stand before it."""

    reason: Reason
    sentence: str
    blockers: Sequence[int] = ()


class CarriedState(msgspec.Struct, frozen=True, kw_only=True):
    """What one plan passes on to the next: the GPU-time that overdue jobs are owed, and whether a batch of
    them is being served."""

    owed_gpu_s: float = 0.0
    serving_overdue: bool = msgspec.field(default=False, name="batch")


class PlanInput(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a plan depends on: equal inputs give equal plans.

    `waiting`: the pending jobs to choose from, in any order. `running`: all that hold GPUs or CPU slots.
    `gpus`: all present ones. `cpu_slots`: how many jobs without GPUs may run at a time. `now`: wall time.
    `policy`: with the limits in force. `carried`: what the last plan passed on."""

    waiting: Sequence[Waiting] = ()
    running: Sequence[Running] = ()
    gpus: Sequence[Gpu]
    cpu_slots: int
    now: float
    policy: Policy = Policy()
    carried: CarriedState = CarriedState()

    def free_capacity(self, starts: Sequence[Start] = ()) -> FreeCapacity:
        """What is free while `running` hold theirs, and after `starts`."""
        taken = {uuid for job in self.running for uuid in job.gpus}
        taken |= {uuid for start in starts for uuid in start.gpus}
        in_slots = sum(1 for job in self.running if not job.gpus) + sum(1 for one in starts if not one.gpus)
        return FreeCapacity(
            gpus=sum(1 for gpu in self.gpus if gpu.schedulable and gpu.uuid not in taken),
            slots=max(0, self.cpu_slots - in_slots),
            shared=len({uuid for job in self.running if job.share_bytes is not None for uuid in job.gpus}),
        )


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`starts` in order; `waits` has an entry for every other job of the window. `wake_at`: when another
    look is worth it though nothing happens (wall time)."""

    starts: Sequence[Start]
    waits: Mapping[int, Wait]
    preempts: Sequence[Preempt] = ()
    reservations: Sequence[Reservation] = ()
    carried: CarriedState = CarriedState()
    wake_at: float | None = None


class FreeCapacity(msgspec.Struct, frozen=True, kw_only=True):
    """What is free: GPUs in service that nobody holds, and CPU slots; `shared` are GPUs of which parts are
    taken, so that others may be free."""

    gpus: int
    slots: int
    shared: int = 0

    def __bool__(self) -> bool:
        return self.gpus > 0 or self.slots > 0 or self.shared > 0
