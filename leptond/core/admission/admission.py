"""The door: a spec goes in, complete jobs come out, or a refusal that names the field."""

from __future__ import annotations

import functools
import hashlib
import posixpath
import re
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Annotated

import msgspec
from msgspec import Meta

from leptond.base.errors import Invalid, TooManyGpus
from leptond.base.section import NotNegative, Section
from leptond.core.jobs import output_path
from leptond.core.jobs.arrays import parse_array
from leptond.core.jobs.instants import epoch
from leptond.core.jobs.model import MAX_ARRAY, MAX_GPUS, CudaDevices, Gpu, JobSpec, Signal
from leptond.core.jobs.scripts import MAX_SCRIPT_BYTES
from leptond.core.jobs.timespec import format_size, spell_duration
from leptond.core.outcome.retry import Wish, unknown_cause
from leptond.core.scheduling.placement import Need, eligible, suits

MAX_ARGV_BYTES = 128 * 1024
MAX_ENV_BYTES = 64 * 1024
MAX_CROSSING = 2000
"""Most members of an array whose ranges go through one another with steps, as ``0-9:2,1-9:4`` do."""

OURS = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "MASTER_PORT", "PET_MASTER_PORT")
"""Variables that leptond sets for every job, and that a job therefore cannot set."""

SLURM = "LEPTOND_SLURM"
"""The one of ours that a job may set: ``1`` asks for Slurm's variables."""

_HINTS = {
    "CUDA_VISIBLE_DEVICES": "leave it out of the environment: --gpus asks for GPUs, and --cuda-devices index"
    " (cuda_devices) gives them to the program as numbers",
}

_ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*\Z")
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class Defaults(Section, frozen=True, kw_only=True):
    """Defaults for what a job does not say. `gpus`: how many it gets, also through the page's form and by
    clients; `--gpus 0` asks for none. `time_limit_s` 0: none. `max_time_limit_s` 0: none.
    `grace_s` is the time between the stop signal and the kill: more than the 30 s that torchrun gives
    its own workers. `retries`: of failures that are the job's own. `log_max_bytes`: of one attempt, head
    and tail kept. `fail_fast`: the same error twice in a row ends the retries. `cuda_devices`: how
    CUDA_VISIBLE_DEVICES names a job's GPUs, by `uuid` or by `index` in the order of the PCI bus, for programs
    that want numbers (slices of MIG have no index, and go by UUID in any case). `path`: its PATH, unless the
    submit names one. `mem_bytes`: the limit of the machine's memory (0: none); `max_mem_bytes`: the largest
    that a job may ask for, which every job has then (0: none)."""

    gpus: Annotated[int, Meta(ge=0, le=MAX_GPUS)] = 0
    time_limit_s: NotNegative = 0.0
    max_time_limit_s: NotNegative = 0.0
    grace_s: Annotated[float, Meta(ge=0, le=86400)] = 45.0
    retries: Annotated[int, Meta(ge=0, le=100)] = 0
    retry_delay_s: NotNegative = 10.0
    retry_max_delay_s: NotNegative = 900.0
    log_max_bytes: Annotated[int, Meta(ge=65536)] = 256 * 1024 * 1024
    fail_fast: bool = True
    cuda_devices: CudaDevices = "uuid"
    mem_bytes: Annotated[int, Meta(ge=0)] = 0
    max_mem_bytes: Annotated[int, Meta(ge=0)] = 0
    path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """A script that is run in place of a file, and its SHA-256. `text` is None where it is stored already."""

    sha256: str
    text: str | None = None


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """A spec with nothing left open, and the jobs that it makes: one, or one for each of the `indices` of an
    array. `script`: what is run in place of ``argv[0]``; `sources`: the files that the command names, as they
    are now (:func:`leptond.core.jobs.sources.encode`)."""

    spec: JobSpec
    name: str
    begin_at: float | None = None
    array_limit: int | None = None
    indices: Sequence[int] | None = None
    script: Script | None = None
    sources: str = "[]"

    @property
    def count(self) -> int:
        """The number of jobs that it makes."""
        return 1 if self.indices is None else len(self.indices)


def _memory(spec: JobSpec, defaults: Defaults, machine_bytes: int | None) -> int | None:
    """Return the limit of a job's memory. Raises Invalid."""
    most = defaults.max_mem_bytes or None
    if not spec.mem_bytes:
        return min(defaults.mem_bytes or most, most) if most is not None else defaults.mem_bytes or None
    asked = f"the job asks for {format_size(spec.mem_bytes)} of memory"
    if most is not None and spec.mem_bytes > most:
        raise Invalid(f"{asked}; no job may have more than {format_size(most)}", pointer="/mem_bytes")
    if machine_bytes is not None and spec.mem_bytes > machine_bytes:
        raise Invalid(
            f"{asked}, this machine has {format_size(machine_bytes)}",
            hint="lower --mem",
            pointer="/mem_bytes",
        )
    return spec.mem_bytes


def admit(
    spec: JobSpec, *, gpus: int, home: str, defaults: Defaults, machine_bytes: int | None = None
) -> Admitted:
    """The jobs that `spec` asks for on a machine of `gpus` GPUs and so much memory (None: unknown). Raises
    Invalid; changes nothing."""
    if spec.gpus > gpus:
        raise TooManyGpus(spec.gpus, gpus)
    _check(spec)
    script = _script_of(spec)
    limit = spec.time_limit_s if spec.time_limit_s is not None else defaults.time_limit_s or None
    longest = defaults.max_time_limit_s or None
    if longest is not None and (limit is None or limit > longest):
        if spec.time_limit_s is not None:
            asked, most = spell_duration(spec.time_limit_s), spell_duration(longest)
            raise Invalid(f"the time limit of {asked} is over this machine's {most}", pointer="/time_limit_s")
        limit = longest
    check_warning(spec.warn_signal, limit)
    indices, array_limit = _members(spec)
    name = spec.name or default_name(spec.argv, spec.shell)
    full = msgspec.structs.replace(
        spec,
        name=name,
        output=None if spec.output == output_path.NO_COPY else spec.output,
        cwd=spec.cwd if spec.cwd is not None else home,
        time_limit_s=limit,
        grace_s=spec.grace_s if spec.grace_s is not None else defaults.grace_s,
        retries=spec.retries if spec.retries is not None else defaults.retries,
        retry_delay_s=spec.retry_delay_s if spec.retry_delay_s is not None else defaults.retry_delay_s,
        retry_max_delay_s=(
            spec.retry_max_delay_s if spec.retry_max_delay_s is not None else defaults.retry_max_delay_s
        ),
        cuda_devices=spec.cuda_devices or defaults.cuda_devices,
        mem_bytes=_memory(spec, defaults, machine_bytes),
        fail_fast=spec.fail_fast if spec.fail_fast is not None else defaults.fail_fast,
        log_max_bytes=spec.log_max_bytes if spec.log_max_bytes is not None else defaults.log_max_bytes,
        script=None,
    )
    return Admitted(
        spec=full,
        name=name,
        begin_at=_epoch(spec.begin_at),
        array_limit=array_limit,
        indices=indices,
        script=script,
    )


def check_warning(warning: Signal | None, limit_s: float | None) -> None:
    """Raise Invalid for a warning signal that does not come between the start and the limit."""
    if warning is None:
        return
    if limit_s is None:
        raise Invalid(
            "a warning signal needs a time limit to come before", pointer="/warn_signal", hint="add --time"
        )
    if warning.before_s >= limit_s:
        raise Invalid(
            f"the warning signal is due {spell_duration(warning.before_s)} before the time limit of "
            f"{spell_duration(limit_s)}, which is not after the start",
            pointer="/warn_signal",
            hint=f"write --signal {warning.signal}@SECONDS with fewer seconds than the limit has, "
            "or a longer --time",
        )


def need_of(spec: JobSpec, *, queue: str, borrow: bool = False) -> Need:
    """Return the demands of a spec on its GPUs."""
    return Need(
        gpus=spec.gpus,
        gpu_type=spec.gpu_type,
        memory_bytes=spec.gpu_memory_bytes,
        exclusive=spec.exclusive,
        queue=queue,
        borrow=borrow,
    )


def check_gpus(need: Need, gpus: Sequence[Gpu], *, sharing: bool) -> None:
    """Raises Invalid for a job that no choice of these GPUs, all free and in service, could ever satisfy, or
    that wants a share where sharing is off."""
    if need.gpus == 0:
        return
    if need.share_bytes is not None and not sharing:
        raise Invalid(
            "GPUs are not shared on this machine",
            pointer="/gpu_memory_bytes",
            hint="add --exclusive for a GPU of at least that memory alone, or set gpus.sharing = true",
        )
    of_type = [gpu for gpu in gpus if suits(msgspec.structs.replace(need, memory_bytes=None), gpu)]
    if need.gpu_type is not None and len(of_type) < need.gpus:
        names = ", ".join(sorted({gpu.name for gpu in gpus})) or "none"
        raise Invalid(
            f"the job asks for {need.gpus} of {need.gpu_type}, this machine has {len(of_type)}",
            pointer="/gpu_type",
            hint=f"its GPUs are: {names}",
        )
    if need.memory_bytes is not None and sum(suits(need, gpu) for gpu in gpus) < need.gpus:
        largest = max((gpu.memory_bytes for gpu in of_type), default=0)
        raise Invalid(
            f"the job asks for {need.memory_bytes} bytes on each of {need.gpus} GPUs;"
            f" the largest here has {largest}",
            pointer="/gpu_memory_bytes",
            hint="lower --gpu-mem; `leptonctl gpus` shows the sizes",
        )
    whole = [msgspec.structs.replace(gpu, schedulable=True) for gpu in gpus]
    possible = len(eligible(need, whole))
    if possible < need.gpus:
        raise Invalid(
            f"the job asks for {need.gpus} GPUs, of which the queue {need.queue} may use {possible} together",
            pointer="/gpus",
            hint="the others belong to other queues, or are slices, which make no gang with whole GPUs",
        )


def wish_of(spec: JobSpec, retries: int) -> Wish:
    """Return the retries that the owner of an admitted job asked for."""
    return Wish(
        retries=retries,
        delay_s=spec.retry_delay_s or 0.0,
        max_delay_s=spec.retry_max_delay_s or 0.0,
        retry_on=spec.retry_on,
        no_retry_on=spec.no_retry_on,
        requeue=spec.requeue,
        fail_fast=spec.fail_fast is not False,
    )


def default_name(argv: Sequence[str], shell: bool) -> str:
    """A name from the command: the script behind an interpreter, else the program.

    >>> default_name(["/usr/bin/python3", "-u", "src/train.py", "--lr", "3"], shell=False)
    'train.py'
    >>> default_name(["echo hello | wc"], shell=True)
    'echo'
    """
    words = argv[0].split() if shell else list(argv)
    if not words:
        return "job"
    program = posixpath.basename(words[0])
    if re.match(r"^(python[0-9.]*|bash|sh|torchrun|accelerate)$", program):
        module = next((after for word, after in pairwise(words) if word == "-m"), None)
        script = next((word for word in words[1:] if word.endswith((".py", ".sh"))), None)
        program = posixpath.basename(script or module or program)
    cleaned = _NOT_A_NAME.sub("-", program).lstrip(".-")[:128]
    return cleaned or "job"


def _check_causes(spec: JobSpec) -> None:
    for field in ("retry_on", "no_retry_on"):
        for position, name in enumerate(getattr(spec, field)):
            wrong = unknown_cause(name)
            if wrong is not None:
                raise Invalid(
                    wrong,
                    pointer=f"/{field}/{position}",
                    hint="an exit code (75), a signal (SIGSEGV) or a class (`leptonctl show` names a job's)",
                )


def _check(spec: JobSpec) -> None:
    """Raises Invalid for all that is wrong with a spec on any machine."""
    refusals = []
    for check in (
        _check_gpu_kind,
        _check_argv,
        _check_cwd,
        _check_output,
        _script_of,
        _check_env,
        _check_causes,
        _members,
        _check_begin,
    ):
        try:
            check(spec)
        except Invalid as refusal:
            refusals.append(refusal)
    if len(refusals) == 1:
        raise refusals[0]
    if refusals:
        raise Invalid.of([fault for refusal in refusals for fault in refusal.faults])


def _check_gpu_kind(spec: JobSpec) -> None:
    if spec.gpus == 0 and (spec.gpu_memory_bytes or spec.gpu_type or spec.exclusive):
        raise Invalid(
            "the job asks for a kind of GPU, but for no GPU", pointer="/gpus", hint="say how many: --gpus N"
        )


def _check_cwd(spec: JobSpec) -> None:
    if spec.cwd is not None and "\0" in spec.cwd:
        raise Invalid("a directory cannot hold a NUL character", pointer="/cwd")


def _check_begin(spec: JobSpec) -> None:
    try:
        _epoch(spec.begin_at)
    except ValueError as error:
        raise Invalid(f"begin_at: {error}", pointer="/begin_at") from None


def _check_argv(spec: JobSpec) -> None:
    for position, word in enumerate(spec.argv):
        if "\0" in word:
            raise Invalid("an argument cannot hold a NUL character", pointer=f"/argv/{position}")
    if not spec.argv[0]:
        raise Invalid("the command is empty", pointer="/argv/0")
    if spec.shell and len(spec.argv) != 1:
        raise Invalid("a shell job is one string", pointer="/argv", hint="quote the whole command line")
    size = sum(len(word.encode()) + 1 for word in spec.argv)
    if size > MAX_ARGV_BYTES:
        raise Invalid(
            f"the arguments are {size} bytes long, at most {MAX_ARGV_BYTES} are taken", pointer="/argv"
        )


def _script_of(spec: JobSpec) -> Script | None:
    """The script that comes with a spec. Raises Invalid."""
    text = spec.script
    if not isinstance(text, str):
        return None
    if spec.shell:
        raise Invalid(
            "a shell job has no script",
            pointer="/script",
            hint="leave shell out: the script is run by its shell",
        )
    if "\0" in text:
        raise Invalid("a script cannot hold a NUL character", pointer="/script")
    content = text.encode()
    if len(content) > MAX_SCRIPT_BYTES:
        raise Invalid(
            f"the script is {len(content)} bytes long, at most {MAX_SCRIPT_BYTES} are kept",
            pointer="/script",
            hint="without it the file argv[0] itself runs, as it is when the job starts",
        )
    return Script(sha256=_sha256(text), text=text)


@functools.lru_cache(maxsize=8)
def _sha256(text: str) -> str:
    # the trials of a sweep have the same script
    return hashlib.sha256(text.encode()).hexdigest()


def _check_output(spec: JobSpec) -> None:
    if spec.output is None:
        return
    try:
        output_path.expand(spec.output, job_id=1, array_id=None, array_index=None, name="x", user="x")
    except ValueError as error:
        raise Invalid(str(error), pointer="/output", hint="%% is a percent sign") from None
    if "\0" in spec.output or spec.output.endswith("/"):
        raise Invalid("the output goes into a file", pointer="/output")


def _check_env(spec: JobSpec) -> None:
    size = 0
    for name, value in spec.env.items():
        pointer = f"/env/{name.replace('~', '~0').replace('/', '~1')}"
        if not _ENV_NAME.match(name):
            raise Invalid("an environment variable's name is letters, digits and _", pointer=pointer)
        if "\0" in value:
            raise Invalid("an environment variable cannot hold a NUL character", pointer=pointer)
        if name in OURS or (name.startswith("LEPTOND_") and name != SLURM):
            raise Invalid(
                f"{name} is set by leptond for every job",
                pointer=pointer,
                hint=_HINTS.get(name, "leave it out of the environment"),
            )
        size += len(name) + len(value.encode()) + 2
    if size > MAX_ENV_BYTES:
        raise Invalid(
            f"the environment is {size} bytes long, at most {MAX_ENV_BYTES} are taken", pointer="/env"
        )


def _members(spec: JobSpec) -> tuple[Sequence[int] | None, int | None]:
    if spec.array is None:
        return None, None
    try:
        return parse_array(spec.array, max_members=MAX_ARRAY, max_crossing=MAX_CROSSING)
    except ValueError as error:
        raise Invalid(str(error), pointer="/array") from None


def _epoch(instant: datetime | None) -> float | None:
    return None if instant is None else epoch(instant)
