"""The values that everything else passes around: what a job asks for, what became of it, and (from
:mod:`leptond.core.jobs.states`) its states.

Durations are seconds, sizes are bytes, times are UTC seconds since the epoch unless the name ends in
``_boot`` (seconds of CLOCK_BOOTTIME, comparable only under the same boot id).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, UnsetType

from leptond.core.jobs import fields
from leptond.core.jobs.field import Kind
from leptond.core.jobs.instants import within
from leptond.core.jobs.scripts import MAX_SCRIPT_BYTES
from leptond.core.jobs.sources import Note
from leptond.core.jobs.states import LEGAL as LEGAL
from leptond.core.jobs.states import LIVE as LIVE
from leptond.core.jobs.states import TERMINAL as TERMINAL
from leptond.core.jobs.states import AttemptState as AttemptState
from leptond.core.jobs.states import FailureClass as FailureClass
from leptond.core.jobs.states import State as State
from leptond.core.jobs.trackers import Tracker


class Reason(StrEnum):
    """The reason that a pending job does not run yet: a closed list, in Slurm's words where Slurm has one."""

    RESOURCES = "Resources"
    PRIORITY = "Priority"
    DEPENDENCY = "Dependency"
    DEPENDENCY_NEVER = "DependencyNeverSatisfied"
    HELD = "Held"
    BEGIN_TIME = "BeginTime"
    BACKOFF = "Backoff"
    ARRAY_LIMIT = "ArrayTaskLimit"
    USER_LIMIT = "UserLimit"
    GPU_UNHEALTHY = "GpuUnhealthy"
    DRAINING = "Draining"
    IMPOSSIBLE = "Impossible"
    PAUSED = "SchedulerPaused"


class StopReason(StrEnum):
    """The reason for which leptond itself ended an attempt."""

    CANCEL = "cancel"
    TIMEOUT = "timeout"
    HANG = "hang"  # no progress for longer than the job allows itself
    PREEMPT = "preempt"  # it gave way to a better placed job, and is queued again
    HALVING = "halving"  # a trial of a sweep that others are better than
    UNWATCHED = "unwatched"  # its shim is gone: what is left of it cannot be supervised


FINAL_STOPS = (StopReason.CANCEL, StopReason.HALVING)
"""After these a job is not tried again, whatever its attempt is found to have died of."""


class DependencyKind(StrEnum):
    """Which end of the other job a dependency waits for."""

    OK = "ok"
    ANY = "any"
    FAIL = "fail"


DEFAULT_QUEUE = "default"
"""The queue of jobs that name none. It is always there."""

MAX_GPUS = 1024
MAX_ARRAY = 1_000_000
MAX_BATCH = 10_000
MAX_DEPENDENCIES = 1_000

END = r"$(?!\n)"
"""The end of a text, in the words of both Python (whose `$` also matches before a last line end) and
ECMAScript (which the OpenAPI document's readers use)."""

NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}" + END
"""Names are safe as a path component, in a terminal and in a table."""

_NAME_WORDS = "Letters, digits and . _ -, beginning with a letter, a digit or _, 128 at most"
Name = Annotated[str, Meta(pattern=NAME_PATTERN, min_length=1, max_length=128, description=_NAME_WORDS)]
_PRINTABLE = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
OpenMode = Literal["append", "truncate"]
"""What becomes of a file that stands at a job's `output` already: the output comes after what is in it (also
where nothing is said), or in its place."""
_CONTACT_WORDS = "One line of text without control characters"
Contact = Annotated[
    str, Meta(pattern=f"^{_PRINTABLE}+{END}", min_length=1, max_length=256, description=_CONTACT_WORDS)
]
"""Free text on one line; nothing in it steers a terminal."""

JobRef = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,18}(_([0-9]{1,9}|\*))?" + END,
        max_length=32,
        description="A job's number, as 47; 47_3 for a member of an array, 47_* for all of it",
    ),
]
"""``47`` one job, ``47_3`` member 3 of array 47, ``47_*`` every member of array 47."""

Duration = Annotated[float, Meta(gt=0, le=10 * 365 * 86400)]
RetryCause = Annotated[
    str,
    Meta(
        pattern=r"^([0-9]{1,3}|SIG[A-Z0-9+-]{2,12}|[a-z][a-z-]{1,20})" + END,
        max_length=32,
        description="An exit code as 75, a signal as SIGSEGV, or a failure class as timeout",
    ),
]
"""An exit code (``75``), a signal (``SIGSEGV``) or a failure class (``timeout``)."""


ParamName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}" + END,
        description="Letters, digits and . _ -, beginning with a letter or _, 64 at most",
    ),
]
Scalar = Annotated[int, Meta(ge=-(2**53), le=2**53)] | float | Annotated[str, Meta(max_length=256)]
"""A value of a parameter."""


MetricName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_./@-]{0,63}" + END,
        description="Letters, digits and . _ / @ -, beginning with a letter or _, 64 at most",
    ),
]

GpuType = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 .,_-]{0,63}" + END,
        description="Words of a GPU's name, as h100 or a100-80gb; commas between alternatives",
    ),
]
"""Words of a GPU's name (``a100-80gb``), with commas between alternatives."""


AbsolutePath = Annotated[str, Meta(pattern=r"^/", max_length=4096, description="A path that begins with /")]


class Signal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A warning signal that the programs of the job get before its wall-clock limit, those that have a
    handler for it; with `batch` its command alone, a batch script with a trap."""

    signal: Annotated[
        str,
        Meta(
            pattern=r"^(SIG)?(HUP|INT|QUIT|USR1|USR2|TERM|CONT|ALRM|WINCH)" + END,
            description="One of HUP, INT, QUIT, USR1, USR2, TERM, CONT, ALRM and WINCH",
        ),
    ]
    before_s: Duration
    batch: bool = False


class Rungs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Steps at which ``leptond.job`` takes note of `metric`, so that trials are measured at the same ones:
    `first` times the powers of `eta`; without `first` it is the total, divided by the third power."""

    first: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    eta: Annotated[int, Meta(ge=2, le=100)] = 3
    metric: MetricName = "loss"


CudaDevices = Literal["uuid", "index"]
"""How CUDA_VISIBLE_DEVICES names GPUs."""


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job as its user asks for it. Validated once, at admission; it is stored as it was accepted, but for
    `script`: the text that is run in place of ``argv[0]``, a copy of that file. It is kept on its own, and is
    null from then on."""

    argv: Annotated[list[Annotated[str, Meta(max_length=131072)]], Meta(min_length=1, max_length=1024)]
    shell: bool = False
    cwd: AbsolutePath | None = None
    env: Annotated[dict[str, str], Meta(max_length=256)] = {}
    name: Name | None = None
    project: Name | None = None
    contact: Contact | UnsetType | None = None
    labels: Annotated[dict[Name, Annotated[str, Meta(max_length=256)]], Meta(max_length=32)] = {}
    gpus: Annotated[int, Meta(ge=0, le=MAX_GPUS)] = 0
    gpu_type: GpuType | None = None
    gpu_memory_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 50)] | None = None
    exclusive: bool = False
    mem_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 50)] | UnsetType | None = None
    cpus: Annotated[int, Meta(ge=1, le=4096)] | UnsetType | None = None
    cuda_devices: CudaDevices | UnsetType | None = None
    queue: Name | None = None
    priority: Annotated[int, Meta(ge=-1000, le=1000)] = 0
    time_limit_s: Duration | None = None
    grace_s: Annotated[float, Meta(ge=0, le=86400)] | None = None
    warn_signal: Signal | None = None
    no_progress_s: Annotated[float, Meta(ge=1, le=30 * 86400)] | None = None
    retries: Annotated[int, Meta(ge=0, le=100)] | None = None
    retry_delay_s: Annotated[float, Meta(ge=0, le=86400)] | None = None
    retry_max_delay_s: Annotated[float, Meta(ge=0, le=7 * 86400)] | None = None
    retry_on: Annotated[list[RetryCause], Meta(max_length=64)] = []
    no_retry_on: Annotated[list[RetryCause], Meta(max_length=64)] = []
    requeue: bool = True
    fail_fast: bool | None = None
    cold: bool = False
    preemptible: bool = False
    urgent: bool = False
    after: Annotated[list[JobRef], Meta(max_length=MAX_DEPENDENCIES)] = []
    after_any: Annotated[list[JobRef], Meta(max_length=MAX_DEPENDENCIES)] = []
    after_fail: Annotated[list[JobRef], Meta(max_length=MAX_DEPENDENCIES)] = []
    array: Annotated[str, Meta(max_length=1024)] | None = None
    hold: bool = False
    begin_at: Annotated[datetime, Meta(tz=True)] | None = None
    log_max_bytes: Annotated[int, Meta(ge=65536, le=1 << 40)] | None = None
    output: AbsolutePath | None = None
    open_mode: OpenMode | UnsetType | None = None
    track: Annotated[list[Tracker], Meta(max_length=8)] = []
    params: Annotated[dict[ParamName, Scalar], Meta(max_length=64)] = {}
    script: Annotated[str, Meta(min_length=1, max_length=MAX_SCRIPT_BYTES)] | UnsetType | None = None
    rungs: Rungs | None = None


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One device as the scheduler sees it. `links` names the way to other devices by their UUIDs, in the
    words of ``nvidia-smi topo -m``; `board` is the GPU that a slice (`mig`) is a part of. `owner` is the
    queue that it belongs to (None: everybody's), which lends it, while it is idle, to jobs of others: `all`,
    only `preemptible` ones, or `none`."""

    uuid: str
    index: int
    name: str
    memory_bytes: int
    schedulable: bool = True
    why_not: str = ""
    numa_node: int | None = None
    links: Mapping[str, str] = {}
    mig: bool = False
    board: str | None = None
    owner: str | None = None
    lend: str = "all"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A process that cannot be mistaken for another: valid only under `boot_id`, and only while the
    process `pid` still has the start time `start_ticks` (field 22 of /proc/PID/stat, clock ticks)."""

    boot_id: str
    pid: int
    start_ticks: int


class ExitRecord(msgspec.Struct, kw_only=True):
    """The record that the shim leaves on disk when an attempt is over (``exit.json``).

    Exactly one of `exit_code`, `signal`, `exec_error`, `never_started` tells the end. `peak_mem_bytes`: the
    most memory that its processes used together, 0 where nobody looked; `over_memory_bytes`: what they used
    when the shim ended them because that was more than their limit. `handed_on`: the succession that its slot
    went to, where the next attempt took it if one was there.
    """

    attempt_id: str
    boot_id: str
    never_started: bool = False
    exit_code: int | None = None
    signal: int | None = None
    exec_error: str | None = None
    exec_errno: int | None = None
    main_pid: int | None = None
    started_at: float | None = None
    ended_at: float = 0.0
    run_s: float = 0.0
    stop_reason: str | None = None
    stop_sent_after_s: float | None = None
    killed: bool = False
    killed_processes: int = 0
    killed_after_s: float | None = None
    leftovers: int = 0
    warned: int = 0
    warn_signal: int | None = None
    unkillable: int = 0
    oom_kills: int = 0
    over_memory_bytes: int = 0
    peak_mem_bytes: int = 0
    max_rss_bytes: int = 0
    cpu_s: float = 0.0
    log_bytes: int = 0
    log_dropped_bytes: int = 0
    start: str | None = None
    handed_on: str = ""


_EDITED = tuple(
    one.name
    for one in fields.FIELDS
    if one.asked and one.editable is not None and one.kind is not Kind.INSTANT
)
"""The fields of a spec whose column may hold a newer value."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A unit of work as the queue holds it: the columns of the table ``jobs``."""

    id: int
    spec: JobSpec
    name: str
    user: str
    project: str | None
    contact: str | None
    labels: dict[str, str]
    state: State
    held: bool
    hold_reason: str | None
    priority: int
    queue: str
    gpus: int
    gpu_type: str | None
    gpu_memory_bytes: int | None
    exclusive: bool
    mem_bytes: int | None
    cpus: int | None
    time_limit_s: float | None
    retries: int
    begin_at: float | None
    array_id: int | None
    array_index: int | None
    array_limit: int | None
    retry_of: int | None
    root_id: int | None
    deps_waiting: int
    deps_failed: int
    submitted_at: float
    started_at: float | None
    ended_at: float | None
    deadline_at: float | None
    backoff_at: float | None
    backoff_boot: float | None
    attempt: int
    spent_user: int
    spent_infra: int
    spent_snooze: int
    spent_requeue: int
    spent_preempt: int
    exit_code: int | None
    signal: int | None
    class_: FailureClass | None = msgspec.field(name="class")
    explanation: str | None
    gpu_ms: int
    preemptible: bool
    urgent: bool
    signature: str
    predicted_s: float | None
    version: int
    never_cause: int | None = None
    uid: int | None = None
    """The account that submitted it, as the kernel or a token said (None: of an older leptond)."""
    cuda_devices: CudaDevices | None = None
    tuned: dict[str, Tuned] = {}
    tuned_version: int = 0
    script_sha256: str | None = None
    sources: str = "[]"
    """What its command named at the submit (:func:`leptond.core.jobs.sources.decode`)."""

    @property
    def ref(self) -> str:
        """The name that people use: ``47``, or ``47_3`` for a member of an array."""
        return str(self.id) if self.array_id is None else f"{self.array_id}_{self.array_index}"

    def current_spec(self) -> JobSpec:
        """The spec of this one job as it is now: with what was edited since the submit, and without the array
        that it is a member of."""
        now = {name: getattr(self, name) for name in _EDITED}
        begin = self.spec.begin_at
        if self.begin_at != (begin.timestamp() if begin is not None else None):
            begin = datetime.fromtimestamp(within(self.begin_at), UTC) if self.begin_at is not None else None
        return msgspec.structs.replace(self.spec, **now, begin_at=begin, array=None)

    @property
    def checkpoint_id(self) -> int:
        """The id of the job whose checkpoint directory it uses: its own, or that of the job it retries."""
        return self.root_id if self.root_id is not None else self.id


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """A value that was asked for a knob, and the request that did, counted over the job."""

    value: float
    version: int


class Knob(msgspec.Struct, frozen=True, kw_only=True):
    """A number that a running job lets others change, within [low, high]."""

    value: float
    low: float
    high: float


class LeasedGpu(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU as an attempt was given it: all of it, or `memory_bytes` of its `total_bytes`. `cpus`: those near
    it (``0-15,32-47``), where that is known."""

    uuid: str
    index: int
    cpus: str | None = None
    memory_bytes: int | None = None
    total_bytes: int | None = None

    @property
    def part(self) -> float:
        """Its fraction of the GPU, by memory."""
        if self.memory_bytes is None or not self.total_bytes:
            return 1.0
        return self.memory_bytes / self.total_bytes


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try at a job: the columns of the table ``attempts``."""

    id: str
    job_id: int
    number: int
    state: AttemptState
    gpus: list[LeasedGpu]
    n_gpus: int
    claimed_at: float
    claimed_boot: float
    boot_id: str
    shim_pid: int | None
    shim_start: int | None
    pid: int | None
    started_at: float | None
    deadline_at: float | None
    ended_at: float | None
    run_s: float | None
    stop_reason: str | None
    stop_by: str | None
    stop_grace_s: float | None
    stop_at: float | None
    exit_code: int | None
    signal: int | None
    class_: FailureClass | None = msgspec.field(name="class")
    rule: str | None
    evidence: list[str]
    explanation: str | None
    retry: str | None
    gpu_ms: int
    max_rss_bytes: int | None
    cpu_s: float | None
    peak_mem_bytes: int | None
    log_bytes: int
    log_dropped_bytes: int
    first_progress_at: float | None = None
    progress_at: float | None = None
    first_step: int | None = None
    step: int | None = None
    total_steps: int | None = None
    checkpoint_at: float | None = None
    start: str | None = None
    checkpoint_step: int | None = None
    metrics: dict[str, float | None] = {}
    knobs: dict[str, Knob] = {}
    applied_version: int = 0
    price_micros: int | None = None
    failure_fingerprint: str | None = msgspec.field(name="signature", default=None)
    retries_saved: int = 0
    stop_note: str | None = None
    spared_ms: int = 0
    notes: list[Note] = []

    @property
    def gpu_parts(self) -> float:
        """The number of its GPUs; a share counts as its part of the memory."""
        return sum(gpu.part for gpu in self.gpus)

    @property
    def shim(self) -> Identity | None:
        """The identity of its supervising process, once that is known."""
        if self.shim_pid is None or self.shim_start is None:
            return None
        return Identity(boot_id=self.boot_id, pid=self.shim_pid, start_ticks=self.shim_start)
