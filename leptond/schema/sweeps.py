"""The shapes of HTTP bodies that speak of sweeps; see :mod:`leptond.schema`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from leptond.core.jobs.model import FailureClass, JobSpec, MetricName, ParamName, Scalar, State
from leptond.core.training.progress import Step
from leptond.core.training.sweeps import MAX_TRIALS

Values = Annotated[list[Scalar], Meta(min_length=1, max_length=MAX_TRIALS)]
Space = Annotated[str, Meta(min_length=1, max_length=4096)]


class NewSweep(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A sweep to be made. `job` is what its trials have in common; it is no array. `grid`: every combination
    of these values. `random`: drawn anew for each trial, from ``log:1e-5..1e-1``, ``uniform:0..0.5``,
    ``int:1..8`` or words with commas between them; the same `seed` draws the same. `trials`: how many (of the
    grid alone: all of it).

    A trial's command has ``{name}`` replaced by the value; what has no such place is added as
    ``--name=value``, unless `arguments` is false. Its environment always has all of them
    (LEPTOND_SWEEP_PARAMS, JSON).

    `halving`: of the trials that reach a rung (`min_step` times a power of `eta` steps) only the best
    ``1/eta`` by `metric` go on; without `min_step` the first rung is at the total that the trials report,
    divided by the third power of `eta`. `concurrent`: most trials that run at a time."""

    job: JobSpec
    grid: Annotated[dict[ParamName, Values], Meta(max_length=32)] = {}
    random: Annotated[dict[ParamName, Space], Meta(max_length=32)] = {}
    trials: Annotated[int, Meta(ge=1, le=MAX_TRIALS)] | None = None
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0
    arguments: bool = True
    metric: MetricName = "loss"
    mode: Literal["min", "max"] = "min"
    halving: bool = True
    min_step: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    eta: Annotated[int, Meta(ge=2, le=100)] = 3
    concurrent: Annotated[int, Meta(ge=1, le=MAX_TRIALS)] | None = None


class SweepSubmitted(msgspec.Struct, kw_only=True):
    """The answer to a submit: what is now durable. The number of a sweep is that of its first trial, and its
    trials are an array of that number."""

    id: int
    ids: list[int]
    name: str
    trials: list[dict[str, Scalar]]
    warnings: list[str] = []


class SweepRung(msgspec.Struct, kw_only=True):
    """The result of a trial at a rung, in its report of `step` (null: not a finite number), and the decision:
    `on`, `stop`, or null while that is open."""

    rung: Step
    step: Step
    value: float | None
    verdict: Literal["on", "stop"] | None = None
    note: str | None = None


class SweepTrial(msgspec.Struct, kw_only=True):
    """A trial: a job with its parameters. `value` is the newest of the metric, of the report of `step`,
    `best` the best so far; null where it has shown none, or none that is finite. `saved_gpu_seconds`: what
    the steps that it was not let run would have taken, at the pace that it had shown (an estimate; null where
    its total is not known, and for who was not stopped early)."""

    id: int
    ref: str
    number: int
    params: dict[str, Scalar]
    state: State
    class_: FailureClass | None = msgspec.field(name="class", default=None)
    explanation: str | None = None
    stopped_early: bool = False
    value: float | None = None
    step: int | None = None
    total: int | None = None
    best: float | None = None
    best_step: int | None = None
    rungs: list[SweepRung] = []
    started_at: datetime | None = None
    ended_at: datetime | None = None
    gpu_seconds: float = 0.0
    saved_gpu_seconds: float | None = None


class SweepBest(msgspec.Struct, kw_only=True):
    """The trial with the best newest value: of those that succeeded, or of all while none has."""

    id: int
    ref: str
    params: dict[str, Scalar]
    value: float
    step: int | None = None


class Sweep(msgspec.Struct, kw_only=True):
    """A sweep. `state`: ``running`` until its last trial has ended. `counts`: its trials by state, with those
    that were stopped early apart. `min_step`: the first rung; null: not known yet, because no trial has told
    its total. `trials`, `gpu_seconds` and `saved_gpu_seconds` (an estimate, the sum of those of its trials)
    come with a single sweep, not in lists."""

    id: int
    name: str
    user: str
    state: Literal["running", "ended"]
    submitted_at: datetime
    metric: str
    mode: Literal["min", "max"]
    halving: bool
    eta: int
    min_step: int | None
    asked: dict[str, Any]
    counts: dict[str, int]
    best: SweepBest | None = None
    gpu_seconds: float | UnsetType = UNSET
    saved_gpu_seconds: float | UnsetType = UNSET
    trials: list[SweepTrial] | UnsetType = UNSET


class SweepPage(msgspec.Struct, kw_only=True):
    """A page of sweeps, newest first; `next_cursor` is null on the last one."""

    items: list[Sweep]
    next_cursor: str | None = None


class SweepChanged(msgspec.Struct, kw_only=True):
    """The result of cancelling a sweep. `changed`: the number of its trials that were cancelled."""

    sweep: Sweep
    changed: int
