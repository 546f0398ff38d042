"""The shapes of HTTP bodies. The same types decode requests, encode answers and make the OpenAPI
document. Instants are RFC 3339 in UTC and end in ``_at``; durations end in ``_s``; sizes in ``_bytes``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from leptond.core.model import (
    END,
    MAX_BATCH,
    MAX_GPUS,
    DependencyKind,
    FailureClass,
    JobRef,
    JobSpec,
    Knob,
    MetricName,
    Name,
    Reason,
    State,
)
from leptond.core.queues import Lend, QueueState
from leptond.core.shares import Kind


class AttemptGpu(msgspec.Struct, kw_only=True):
    """`memory_bytes`: its share of the GPU's memory; null when it has the whole GPU."""

    uuid: str
    index: int
    memory_bytes: int | None = None


class Attempt(msgspec.Struct, kw_only=True):
    """One try at a job. `class` is null while it lives; `rule` names the rule that chose the class and
    `evidence` holds what it saw. `signature` knows the same failure again.
    `start`: how its command started, `warm` or `cold: ` and why."""

    number: int
    id: str
    state: str
    claimed_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    run_s: float | None = None
    exit_code: int | None = None
    signal: str | None = None
    class_: FailureClass | None = msgspec.field(name="class", default=None)
    rule: str | None = None
    evidence: list[str] = []
    explanation: str | None = None
    stop_reason: str | None = None
    pid: int | None = None
    gpus: list[AttemptGpu] = []
    gpu_seconds: float = 0.0
    retry: str | None = None
    signature: str | None = None
    log_bytes: int = 0
    log_dropped_bytes: int = 0
    start: str | None = None


class Progress(msgspec.Struct, kw_only=True):
    """What the newest attempt says about itself. `left_s` is an estimate from its mean speed; a metric of
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


class Job(msgspec.Struct, kw_only=True):
    """A job as the queue holds it. `attempts` and `dependencies` come with a single job, not in lists."""

    id: int
    ref: str
    name: str
    user: str
    project: str | None
    labels: dict[str, str]
    state: State
    reason: Reason | None = None
    reason_detail: str | None = None
    held: bool = False
    priority: int
    queue: str = "default"
    gpus: int
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
    spec: JobSpec
    attempts: list[Attempt] | UnsetType = UNSET
    dependencies: list[Dependency] | UnsetType = UNSET


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
    """What became of an array. `changed`: of how many members what was asked for is so now; the others had
    gone too far for it."""

    array: Array
    changed: int


class Batch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Jobs that are all accepted or all refused."""

    jobs: Annotated[list[JobSpec], Meta(min_length=1, max_length=MAX_BATCH)]


class BatchSubmitted(msgspec.Struct, kw_only=True):
    jobs: list[Submitted]


class JobPatch(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What may be changed. `time_limit_s`, `gpus`, `begin_at`, `retries`, `queue` only while the job is
    pending."""

    priority: Annotated[int, Meta(ge=-1000, le=1000)] | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    project: Name | UnsetType | None = UNSET
    labels: Annotated[dict[Name, Annotated[str, Meta(max_length=256)]], Meta(max_length=32)] | UnsetType = (
        UNSET
    )
    time_limit_s: Annotated[float, Meta(gt=0, le=10 * 365 * 86400)] | UnsetType | None = UNSET
    gpus: Annotated[int, Meta(ge=0, le=1024)] | UnsetType = UNSET
    retries: Annotated[int, Meta(ge=0, le=100)] | UnsetType = UNSET
    begin_at: Annotated[datetime, Meta(tz=True)] | UnsetType | None = UNSET
    queue: Name | UnsetType = UNSET


class Cancel(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of a cancel, all optional. `grace_s` replaces the job's own grace; 0 kills at once."""

    grace_s: Annotated[float, Meta(ge=0, le=86400)] | None = None
    reason: Annotated[str, Meta(max_length=256)] | None = None


class Tune(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What knobs of a running job to turn to what."""

    values: Annotated[
        dict[MetricName, Annotated[float, Meta(ge=-1e300, le=1e300)]], Meta(min_length=1, max_length=32)
    ]


class Why(msgspec.Struct, kw_only=True):
    """Why a job stands where it stands, in one sentence, and what would move it on. `starts_at` is when it is
    likely to start, `earliest_at` and `latest_at` if all runs take half of what is expected, or twice; null
    when that cannot be foretold."""

    id: int
    state: State
    reason: Reason | None
    sentence: str
    unblock: str | None = None
    waits_for: list[JobRef] = []
    starts_at: datetime | None = None
    earliest_at: datetime | None = None
    latest_at: datetime | None = None


class Planned(msgspec.Struct, kw_only=True):
    """A start that is foretold. `earliest_at` and `latest_at`: if all runs take half of what is expected, or
    twice."""

    id: int
    ref: str
    name: str
    user: str
    gpus: int
    gpu_indices: list[int]
    starts_at: datetime
    earliest_at: datetime | None
    latest_at: datetime | None
    ends_at: datetime


class Plan(msgspec.Struct, kw_only=True):
    """Who starts when, under `policy`, by the time of the start. `not_foretold`: how many jobs of the
    planner's window start later than the forward run reaches, or not at all as things are."""

    policy: str
    at: datetime
    items: list[Planned]
    not_foretold: int


class Estimate(msgspec.Struct, kw_only=True):
    """When a job would start if it were submitted now, of an array its first member. `expected_run_s` comes
    from earlier runs of its kind, else from its limit."""

    jobs: int
    sentence: str = ""
    reason: Reason | None = None
    starts_at: datetime | None = None
    earliest_at: datetime | None = None
    latest_at: datetime | None = None
    ends_at: datetime | None = None
    gpu_indices: list[int] = []
    expected_run_s: float | None = None


class MetricPoint(msgspec.Struct, kw_only=True):
    """What an attempt reported at a moment."""

    attempt: int
    step: int | None
    at: datetime
    values: dict[str, float | None]


class MetricMark(msgspec.Struct, kw_only=True):
    """A moment that the curve should be read with: a knob that was turned, or took effect."""

    kind: str
    attempt: int | None
    at: datetime
    data: dict[str, Any]


class MetricCurve(msgspec.Struct, kw_only=True):
    """The curve of a job over all its attempts: every `stride`-th of the `reports` that came. `marks`: knobs
    that were turned (job.tune, job.tuned) and checkpoints (job.checkpoint)."""

    job_id: int
    stride: int
    reports: int
    points: list[MetricPoint]
    marks: list[MetricMark] = []


class WebhookDelivery(msgspec.Struct, kw_only=True):
    """An event that a hook was sent. `result`: delivered, refused (not worth another try), failed (given up
    after several). `status`: of the last answer, null when there was none."""

    event_id: int
    event: str
    at: datetime
    tries: int
    result: str
    status: int | None = None
    error: str | None = None


class Webhook(msgspec.Struct, kw_only=True):
    """A hook of the configuration. `behind`: events that it has still to be looked through for."""

    name: str
    url: str
    events: list[str]
    signed: bool
    behind: int
    deliveries: list[WebhookDelivery]


class Me(msgspec.Struct, kw_only=True):
    """Who the caller is. `read_only`: came with the token that only looks. `page_url` and
    `page_url_read_only` open the page with a token; null when TCP is off, and for who is not an admin on
    the Unix socket."""

    user: str
    admin: bool
    read_only: bool
    page_url: str | None = None
    page_url_read_only: str | None = None


class Bar(msgspec.Struct, kw_only=True):
    """An attempt in the picture of who had which GPU. `ended_at` is null while it lives."""

    job_id: int
    ref: str
    name: str
    user: str
    attempt: int
    state: str
    class_: FailureClass | None = msgspec.field(name="class", default=None)
    exit_code: int | None = None
    gpu_indices: list[int]
    claimed_at: datetime
    ended_at: datetime | None = None


class Timeline(msgspec.Struct, kw_only=True):
    """Attempts that held GPUs between `since` and `until`, newest first. `more`: older ones were left
    out."""

    since: datetime
    until: datetime
    items: list[Bar]
    more: bool


class GpuMinute(msgspec.Struct, kw_only=True):
    """A minute of a device: means of utilisation and power, peaks of memory and temperature."""

    at: datetime
    utilization: float | None = None
    memory_used_bytes: int | None = None
    power_w: float | None = None
    temperature_c: float | None = None


class GpuSeries(msgspec.Struct, kw_only=True):
    index: int
    uuid: str
    minutes: list[GpuMinute]


class GpuUse(msgspec.Struct, kw_only=True):
    """What samples of a device say of an attempt that had it. `idle_s`: held, but under 5% load, of
    `sampled_s`; `first_use_at`: when it was first loaded. `minutes` are those of the device meanwhile, as far
    back as the daemon remembers them (a day at most)."""

    attempt: int
    index: int
    uuid: str
    sampled_s: float = 0.0
    idle_s: float = 0.0
    first_use_at: datetime | None = None
    max_utilization: float | None = None
    max_memory_bytes: int | None = None
    energy_kwh: float | None = None
    energy_source: str | None = None
    minutes: list[GpuMinute] = []


class GpuHistoryList(msgspec.Struct, kw_only=True):
    """What the devices did lately, as far back as the daemon runs (a day at most)."""

    items: list[GpuSeries]


class GpuProcess(msgspec.Struct, kw_only=True):
    pid: int
    name: str | None = None
    memory_bytes: int | None = None
    job_id: int | None = None


class GpuJob(msgspec.Struct, kw_only=True):
    """A job that has a GPU, or `memory_bytes` of it (null: the whole)."""

    id: int
    attempt: int
    memory_bytes: int | None = None


class Gpu(msgspec.Struct, kw_only=True):
    """A device. `cpus`: those near it, as the kernel lists them; `links`: the way to other devices by their
    UUIDs, in the words of ``nvidia-smi topo -m``; `mig`: it is a slice of a GPU; `queue`: which owns it.
    `jobs` has everybody who holds it or a share of it, `job_id` the first of them; `memory_leased_bytes` is
    what they were promised."""

    index: int
    uuid: str
    name: str
    simulated: bool
    present: bool
    mig: bool = False
    numa_node: int | None = None
    cpus: str | None = None
    links: dict[str, str] = {}
    memory_total_bytes: int
    memory_used_bytes: int | None = None
    utilization: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    drained: bool
    drain_reason: str | None = None
    schedulable: bool
    why_not: str | None = None
    queue: str | None = None
    job_id: int | None = None
    attempt: int | None = None
    jobs: list[GpuJob] = []
    memory_leased_bytes: int = 0
    processes: list[GpuProcess] = []
    sampled_at: datetime | None = None


class GpuList(msgspec.Struct, kw_only=True):
    items: list[Gpu]
    backend: str
    note: str | None = None


class Drain(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(min_length=1, max_length=256)] = "drained by hand"


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
    """What to change of a queue; what is not named stays."""

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
    """What one user or project may have; null: as the configuration says. `weight`: its part beside others
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


class Slots(msgspec.Struct, kw_only=True):
    total: int
    used: int


class Status(msgspec.Struct, kw_only=True):
    """What runs, what waits and why, and whether all is well, in one object. `warnings` want somebody's
    eye; `notes` are standing facts of this installation that its users should know."""

    version: str
    pid: int
    mode: str
    state: str
    started_at: datetime
    counts: dict[State, int]
    held: int
    gpus: list[Gpu]
    gpu_backend: str
    gpu_note: str | None
    cpu_slots: Slots
    running: list[Job]
    next: list[Job]
    failed_recently: list[Job]
    oldest_wait_s: float | None
    warnings: list[str]
    notes: list[str] = []


class Event(msgspec.Struct, kw_only=True):
    """One row of the append-only event table; ids only grow, so that a reader can resume."""

    id: int
    at: datetime
    type: str
    job_id: int | None = None
    attempt: int | None = None
    data: dict[str, Any] = {}


class EventPage(msgspec.Struct, kw_only=True):
    items: list[Event]
    next_cursor: str | None = None


class Health(msgspec.Struct, kw_only=True):
    status: str
    checks: dict[str, str] = {}


class ProblemError(msgspec.Struct, kw_only=True):
    pointer: str
    message: str


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """RFC 9457. `hint` says what to do next; `errors` point into the request body (RFC 6901)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    hint: str | None = None
    errors: list[ProblemError] = []
