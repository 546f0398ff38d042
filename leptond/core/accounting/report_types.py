"""Values of the cost report: what it is made from, and what it contains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from leptond.core.accounting.ledger import AttemptSpan, Box, IdleCauseChange, PriceChange, ServiceChange

IDLE_BELOW = 0.05
"""Utilization below which a held GPU counts as idle."""

GroupBy = Literal["user", "project", "queue", "job", "gpu"]


class SampledUse(msgspec.Struct, kw_only=True):
    """Sums of the samples of one GPU during one attempt. Energy in mJ; `energy_source`: counter, power or
    simulated."""

    attempt_id: str
    gpu: str
    sampled_ms: int = 0
    idle_ms: int = 0
    energy_mj: int | None = None
    energy_source: str | None = None
    first_use_at: float | None = None
    max_utilization: float | None = None
    max_memory_bytes: int | None = None


class IdleEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """Energy in mJ that a free GPU took in one hour (hours since the epoch)."""

    hour: int
    gpu: str
    energy_mj: int
    energy_source: str


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt of the window: its times, its owner, and what was sampled of it."""

    span: AttemptSpan
    number: int
    name: str
    user: str
    project: str | None
    queue: str | None
    run_s: float
    retries_saved: int
    uses: Sequence[SampledUse]
    progress_known: bool
    submitted: int | None = None
    limit_s: float | None = None
    priority: int = 0
    spared_ms: int = 0


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU as the report names it, with its price now (None: not known)."""

    gpu: str
    index: int
    name: str
    memory_bytes: int
    simulated: bool
    price: int | None = None
    currency: str | None = None
    source: str | None = None
    as_of: str | None = None


class DailyTotal(msgspec.Struct, frozen=True, kw_only=True):
    """A sum of days whose details are forgotten: `ms` of one GPU in one box, of one user, project and queue
    (empty: none)."""

    gpu: str
    user: str
    project: str
    queue: str
    box: Box
    cause: str
    price: int | None
    ms: int


class LedgerHistory(msgspec.Struct, frozen=True, kw_only=True):
    """All that one window of the ledger is made from. `daily_totals` has the whole days before `detail_since`
    (ms; None: details of all of it are kept)."""

    service: Sequence[ServiceChange]
    queue: Sequence[IdleCauseChange]
    prices: Sequence[PriceChange]
    attempts: Sequence[AttemptRecord]
    idle_energy: Sequence[IdleEnergy] = ()
    devices: Sequence[Device] = ()
    daily_totals: Sequence[DailyTotal] = ()
    detail_since: int | None = None

    @property
    def spans(self) -> list[AttemptSpan]:
        """The times of the attempts."""
        return [fact.span for fact in self.attempts]


# -- the report --------------------------------------------------------------------------------------------


class CauseLine(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a box. `cost` is null where a price is missing."""

    cause: str
    gpu_seconds: float
    cost: float | None


class BoxLine(msgspec.Struct, frozen=True, kw_only=True):
    """One box of the ledger. `waste`: time that produced nothing."""

    box: Box
    gpu_seconds: float
    share: float
    cost: float | None
    waste: bool
    causes: list[CauseLine]


class PriceLine(msgspec.Struct, frozen=True, kw_only=True):
    """The price of a model, with its source and date; null: not known."""

    model: str
    gpus: int
    per_gpu_hour: float | None
    currency: str | None
    source: str | None
    as_of: str | None


class RetryLine(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs retried after an end of this class, and how many of them succeeded."""

    cause: str
    retried: int
    succeeded: int
    wasted_gpu_seconds: float


class GroupLine(msgspec.Struct, frozen=True, kw_only=True):
    """One user, project, queue, job or GPU. `gpu_seconds` were held; `wasted_*` is start, lost, failed and
    stop. `ref`: what people call a job (`47_3`), while it is known."""

    key: str
    jobs: int
    gpu_seconds: float
    productive_gpu_seconds: float
    wasted_gpu_seconds: float
    idle_gpu_seconds: float
    kwh: float | None
    cost: float | None
    wasted_cost: float | None
    ref: str | None = None


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """Energy of the devices that measure it. `sources`: counter, power (a sum of samples) or simulated.
    `idle_kwh`: while no job had them. `cost` only with a tariff; a rent includes it already."""

    kwh: float
    idle_kwh: float
    cost: float | None
    idle_cost: float | None
    sources: list[str]


class Checkpoints(msgspec.Struct, frozen=True, kw_only=True):
    """The frequency of interruptions (preempted, failed, the machine), and the interval at which a checkpoint
    that takes half a minute to write should then be written (Young and Daly)."""

    interruptions: int
    mean_time_between_s: float | None
    interval_s_for_30_s: float | None


class HandOver(msgspec.Struct, frozen=True, kw_only=True):
    """The time that GPUs waited for a job that could start, for each start of the window. `p50_s` and `p99_s`
    leave out downtime of the daemon."""

    starts: int
    p50_s: float | None
    p99_s: float | None


class Memos(msgspec.Struct, frozen=True, kw_only=True):
    """Figures that cut across the boxes. `idle_*`: held and less than 5% busy, of what was sampled (busy is
    time with a kernel resident, not efficiency). `never_used_gpu_seconds`: of GPUs that were never more than
    5% busy in the attempt that held them. `unused_memory`: the part of the memory of held GPUs that was never
    used. `backoff_gpu_seconds`: empty only because jobs were in back-off. `undecided_gpu_seconds`: productive
    so far, of jobs whose end is not known. `start_unknown`: attempts that reported no progress and were not
    seen in use, whose start counts as productive. `stopped_early`: trials of sweeps that were stopped early
    and whose total of steps was known; `stopped_early_gpu_seconds` estimates what their remaining steps would
    have taken at their own seconds a step, and is in no box."""

    sampled_gpu_seconds: float
    idle_gpu_seconds: float
    idle_ratio: float | None
    idle_cost: float | None
    never_used_gpu_seconds: float
    unused_memory: float | None
    backoff_gpu_seconds: float
    undecided_gpu_seconds: float
    start_unknown: int
    retries_saved: int
    retries_saved_gpu_seconds: float
    retries_saved_cost: float | None
    stopped_early: int
    stopped_early_gpu_seconds: float
    stopped_early_cost: float | None


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """A change that would save GPU time, and how much at most."""

    sentence: str
    gpu_seconds: float
    cost: float | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs that began and ended in the window, simulated under the policy and under another: mean time
    from submit to end, and GPU time that was free while jobs waited; `saved_cost` is the cost of the
    difference. The simulation knows counts only, no preemption and no GPU types."""

    policy: str
    against: str
    jobs: int
    jct_s: float
    against_jct_s: float
    idle_gpu_seconds: float
    against_idle_gpu_seconds: float
    saved_cost: float | None


class CostReport(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger of a window. The boxes add up to `capacity_gpu_seconds`. Costs are null where a price is
    missing; amounts are in `currency`. Before `detail_since_s` (UTC seconds) only daily sums are kept: no
    single jobs, no memos."""

    gpus: int
    simulated: bool
    detail_since_s: float | None
    currency: str
    capacity_gpu_seconds: float
    paid: float | None
    unpriced_gpu_seconds: float
    boxes: list[BoxLine]
    scheduling_goodput: float | None
    runtime_goodput: float | None
    goodput: float | None
    capacity_goodput: float | None
    cost_per_useful_gpu_hour: float | None
    memos: Memos
    energy: Energy | None
    retries: list[RetryLine]
    checkpoints: Checkpoints
    hand_over: HandOver
    prices: list[PriceLine]
    groups: list[GroupLine]
    advice: list[Advice]
