"""Queues, limits and fair shares."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from leptond.core.admission.queues import Lend, QueueState
from leptond.core.jobs.model import END, MAX_GPUS, Name
from leptond.core.scheduling.fair_share import Kind


class QueueGpu(msgspec.Struct, kw_only=True):
    uuid: str
    index: int | None = None


class Queue(msgspec.Struct, kw_only=True):
    """A queue. `users`: who may submit (empty: everybody); `gpus`: those that it owns; `lend`: to whom, while
    they are idle; `borrow`: whether its jobs may use what other queues lend."""

    name: str
    state: QueueState
    weight: float
    default_priority: int
    default_time_limit_s: float | None
    max_time_limit_s: float | None
    max_gpus: int | None
    users: list[str]
    borrow: bool
    lend: Lend
    gpus: list[QueueGpu]
    pending: int
    running: int
    running_gpus: float
    used_gpu_s: float
    version: int


class QueueList(msgspec.Struct, kw_only=True):
    items: list[Queue]


GpuName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9:/.-]{0,95}" + END)]
"""A GPU's index or UUID."""
Weight = Annotated[float, Meta(gt=0, le=1e6)]
Priority = Annotated[int, Meta(ge=-1000, le=1000)]
TimeLimit = Annotated[float, Meta(gt=0, le=10 * 365 * 86400)]
Users = Annotated[list[Annotated[str, Meta(min_length=1, max_length=128)]], Meta(max_length=1000)]


class NewQueue(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A queue to be made. `gpus`: by index or UUID."""

    name: Name
    state: QueueState = "open"
    weight: Weight = 1.0
    default_priority: Priority = 0
    default_time_limit_s: TimeLimit | None = None
    max_time_limit_s: TimeLimit | None = None
    max_gpus: Annotated[int, Meta(ge=0, le=MAX_GPUS)] | None = None
    users: Users = []
    borrow: bool = False
    lend: Lend = "all"
    gpus: Annotated[list[GpuName], Meta(max_length=MAX_GPUS)] = []


class QueuePatch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Changes to a queue; what is not named stays."""

    state: QueueState | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET
    default_priority: Priority | UnsetType = UNSET
    default_time_limit_s: TimeLimit | UnsetType | None = UNSET
    max_time_limit_s: TimeLimit | UnsetType | None = UNSET
    max_gpus: Annotated[int, Meta(ge=0, le=MAX_GPUS)] | UnsetType | None = UNSET
    users: Users | UnsetType = UNSET
    borrow: bool | UnsetType = UNSET
    lend: Lend | UnsetType = UNSET
    gpus: Annotated[list[GpuName], Meta(max_length=MAX_GPUS)] | UnsetType = UNSET


class LimitBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The limits of one user or project; null: as the configuration says. `weight`: its part beside others
    in fair share."""

    max_gpus: Annotated[int, Meta(ge=0, le=MAX_GPUS)] | None = None
    max_pending: Annotated[int, Meta(ge=0, le=1_000_000_000)] | None = None
    weight: Weight | None = None


class Share(msgspec.Struct, kw_only=True):
    """A user or project: the caps that count for it, what it has now, and what it has had (`used_gpu_s`,
    faded by the half-life). `own`: whether something is set for it alone."""

    kind: Kind
    name: str
    own: bool
    max_gpus: float | None
    max_pending: int | None
    weight: float
    running_gpus: float
    pending: int
    used_gpu_s: float


class ShareList(msgspec.Struct, kw_only=True):
    items: list[Share]
    half_life_s: float
    max_handicap_s: float
