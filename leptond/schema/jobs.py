"""Jobs and arrays: what is submitted, changed, listed and explained."""

from __future__ import annotations

from datetime import datetime
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

from leptond.core.jobs import fields
from leptond.core.jobs.model import (
    MAX_BATCH,
    CudaDevices,
    DependencyKind,
    FailureClass,
    JobRef,
    JobSpec,
    Knob,
    MetricName,
    OpenMode,
    Reason,
    State,
)
from leptond.schema.attempts import Attempt


class Progress(msgspec.Struct, kw_only=True):
    """The progress that the newest attempt reports. `left_s` is an estimate from its mean speed; a metric of
    null is not a finite number; `checkpoint_step` is that of the last checkpoint it announced."""

    attempt: int
    step: int | None = None
    total: int | None = None
    metrics: dict[str, float | None] = {}
    steps_per_s: float | None = None
    left_s: float | None = None
    first_at: datetime | None = None
    at: datetime | None = None
    checkpoint_step: int | None = None
    checkpoint_at: datetime | None = None
    knobs: dict[str, Knob] = {}


class Dependency(msgspec.Struct, kw_only=True):
    """`on_ref`: the job that is waited for, or ``47_*`` for all of an array, whose first is `on_job_id`."""

    on_job_id: int
    on_ref: str
    kind: DependencyKind
    state: str


class SourceFile(msgspec.Struct, kw_only=True):
    """A file that a job's command names, as it was at the submit; `sha256` is null for a large one."""

    path: str
    bytes: int
    modified_at: datetime
    sha256: str | None = None


class Job(msgspec.Struct, kw_only=True):
    """A job as the queue holds it. `attempts`, `dependencies`, `sources` (the files that its command names,
    as they were at the submit) and `resubmit` (the command line that submits it again) come with a single
    job, not in lists. `script_sha256`: of the copy that is run in place of ``argv[0]`` (``GET
    /v1/jobs/{ref}/script``). `members`: in a list of whole arrays, how many members of this one's array have
    not ended, by state. `private`: it belongs to another, and what is not public of it (all but id, user,
    state, GPUs and times) is left out."""

    id: int
    ref: str
    name: str
    user: str
    project: str | None
    contact: str | None = None
    mem_bytes: int | None = None
    cpus: int | None = None
    open_mode: OpenMode | None = None
    labels: dict[str, str]
    state: State
    reason: Reason | None = None
    reason_detail: str | None = None
    held: bool = False
    priority: int
    queue: str = "default"
    gpus: int
    cuda_devices: CudaDevices | None = None
    array_id: int | None = None
    array_index: int | None = None
    retry_of: int | None = None
    submitted_at: datetime
    eligible_at: datetime | None = None
    starts_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    deadline_at: datetime | None = None
    time_limit_s: float | None = None
    run_s: float | None = None
    attempt: int = 0
    retries_left: int = 0
    exit_code: int | None = None
    signal: str | None = None
    class_: FailureClass | None = msgspec.field(name="class", default=None)
    explanation: str | None = None
    gpu_indices: list[int] = []
    gpu_seconds: float = 0.0
    checkpoint_dir: str
    log_path: str | None = None
    progress: Progress | None = None
    tuned: dict[str, float] = {}
    version: int
    script_sha256: str | None = None
    spec: JobSpec
    attempts: list[Attempt] | UnsetType = UNSET
    dependencies: list[Dependency] | UnsetType = UNSET
    members: dict[State, int] | UnsetType = UNSET
    resubmit: str | UnsetType = UNSET
    sources: list[SourceFile] | UnsetType = UNSET
    private: bool | UnsetType = UNSET


class JobPage(msgspec.Struct, kw_only=True):
    """A page of jobs; `next_cursor` is null on the last one."""

    items: list[Job]
    next_cursor: str | None = None


class Submitted(msgspec.Struct, kw_only=True):
    """The answer to a submit: what is now durable. `array_id` is set when the spec was an array."""

    id: int
    ids: list[int]
    array_id: int | None = None
    name: str
    state: State
    warnings: list[str] = []


class Array(msgspec.Struct, kw_only=True):
    """A whole array. `counts`: how many of its members are in which state; of those that wait, `held` are
    held and `never_start` wait for what cannot happen any more. `first_failed`: the first, by its index, that
    ended without success."""

    id: int
    name: str
    user: str
    counts: dict[State, int]
    held: int
    never_start: int
    first_failed: JobRef | None = None


class ArrayChanged(msgspec.Struct, kw_only=True):
    """The result of a change to an array. `changed`: the number of members that are now as was asked; the
    others had gone too far for it."""

    array: Array
    changed: int


class Batch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Jobs that are all accepted or all refused."""

    jobs: Annotated[list[JobSpec], Meta(min_length=1, max_length=MAX_BATCH)]


class BatchSubmitted(msgspec.Struct, kw_only=True):
    jobs: list[Submitted]


def _patch_type(name: str, *, nullable: bool) -> Any:
    """The type of a field of JobSpec in a patch: null only where an edit may take the value away."""
    hint = _SPEC[name]
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    allowed = [one for one in parts if nullable or one is not NoneType]
    return Union[(*allowed, UnsetType)]


_SPEC = get_type_hints(JobSpec, include_extras=True)
_EDITABLE = [one for one in fields.FIELDS if one.editable is not None]

JobPatch = msgspec.defstruct(
    "JobPatch",
    [(one.name, _patch_type(one.name, nullable=one.nullable), UNSET) for one in _EDITABLE],
    module=__name__,
    namespace={
        "__doc__": "What may be changed; "
        + ", ".join(f"`{one.name}`" for one in _EDITABLE if one.editable == "pending")
        + " only while the job is pending."
    },
    kw_only=True,
    forbid_unknown_fields=True,
)


class Cancel(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of a cancel, all optional. `grace_s` replaces the job's own grace; 0 kills at once."""

    grace_s: Annotated[float, Meta(ge=0, le=86400)] | None = None
    reason: Annotated[str, Meta(max_length=256)] | None = None


MAX_NAMED = 10_000

_JOB_SET: list[Any] = [
    ("jobs", Annotated[list[JobRef], Meta(max_length=MAX_NAMED)], []),
    ("all", bool, False),
    *((one.name, Annotated[str, Meta(max_length=one.longest)] | None, None) for one in fields.FILTERS),
    ("state", Annotated[str, Meta(max_length=256)] | None, None),
    ("label", Annotated[str, Meta(max_length=512)] | None, None),
    ("array", Annotated[int, Meta(ge=1, le=2**53)] | None, None),
    ("never", bool, False),
    ("dry_run", bool, False),
]

JobSet = msgspec.defstruct(
    "JobSet",
    _JOB_SET,
    module=__name__,
    namespace={
        "__doc__": "A set of jobs that is changed as one: those that are named (`jobs`: `47`, `47_3`,"
        " `47_*`), or all that fulfil every filter given. `all`: every job that the caller may change."
        " `never`: those that can never start. `state`: states, separated by commas. `dry_run`: only say how"
        " many there are."
    },
    kw_only=True,
    forbid_unknown_fields=True,
)

CancelSet = msgspec.defstruct(
    "CancelSet",
    [
        *_JOB_SET,
        ("grace_s", Annotated[float, Meta(ge=0, le=86400)] | None, None),
        ("reason", Annotated[str, Meta(max_length=256)] | None, None),
    ],
    module=__name__,
    namespace={"__doc__": "The body of a cancel of a set (JobSet), with what Cancel has."},
    kw_only=True,
    forbid_unknown_fields=True,
)

PurgeSet = msgspec.defstruct(
    "PurgeSet",
    [*_JOB_SET, ("checkpoints", bool, False)],
    module=__name__,
    namespace={
        "__doc__": "The body of a purge of finished jobs (JobSet). `checkpoints`: also remove checkpoints"
        " with the last job that used them."
    },
    kw_only=True,
    forbid_unknown_fields=True,
)


class NotChanged(msgspec.Struct, kw_only=True):
    """A job that was named and not changed, with the parts of a problem that say why."""

    ref: JobRef
    type: str
    status: int
    detail: str
    hint: str | None = None


class SetChanged(msgspec.Struct, kw_only=True):
    """The result of a change of a set: `pending` of its jobs waited, `live` ones ran (and are being stopped,
    by a cancel), `finished` had ended (and are forgotten, by a purge). `others` belong to others, and stayed
    as they are; so did the `refused` ones. `meanwhile`: how many jobs of the same kind came in after the
    change, with the names of the first ones (`meanwhile_jobs`)."""

    dry_run: bool = False
    pending: int = 0
    live: int = 0
    finished: int = 0
    others: int = 0
    refused: list[NotChanged] = []
    meanwhile: int = 0
    meanwhile_jobs: list[JobRef] = []


class Tune(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """New values of knobs of a running job."""

    values: Annotated[
        dict[MetricName, Annotated[float, Meta(ge=-1e300, le=1e300)]], Meta(min_length=1, max_length=32)
    ]


class Why(msgspec.Struct, kw_only=True):
    """The reason that a job waits, or how it ended, in one sentence, and what would change that. `starts_at`
    is when it is likely to start, `earliest_at` and `latest_at` if all runs take half of what is expected, or
    twice; null when that cannot be predicted (`starts_unknown` says why). Until `bypass_until` other jobs may
    start before it, also ones that are submitted later; then it is next after `overdue_ahead` older jobs, and
    GPUs are kept for it (null: the policy has no such bound, or the job does not wait for GPUs)."""

    id: int
    state: State
    reason: Reason | None
    sentence: str
    unblock: str | None = None
    waits_for: list[JobRef] = []
    starts_at: datetime | None = None
    earliest_at: datetime | None = None
    latest_at: datetime | None = None
    starts_unknown: str | None = None
    bypass_until: datetime | None = None
    overdue_ahead: int | None = None
