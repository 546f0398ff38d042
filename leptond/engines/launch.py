"""The launch description of a shim: the command, its environment and its limits. Pure."""

from __future__ import annotations

import posixpath
import signal
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from leptond.attempt_files import layout
from leptond.base.accounts import Account
from leptond.core.jobs import trackers
from leptond.core.jobs.model import Job, LeasedGpu, State
from leptond.core.jobs.scripts import interpreter
from leptond.engines import slurm
from leptond.engines.base import Given
from leptond.engines.procs import COOKIE, tag_of


class Submitter(msgspec.Struct, frozen=True, kw_only=True):
    """What the process of a command does before it becomes the command of another account than the daemon's
    (:mod:`leptond.engines.shim.identity`)."""

    uid: int
    gid: int
    name: str
    no_new_privileges: bool
    max_processes: int


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that machine and settings add to a job's spec. `standby` is where its files are until its GO,
    and `directory` where they are from then on; `own_directory`, that or one below it, is where the job may
    write. `account` has the names of the account that it runs under; `submitter` is set where that is not the
    daemon's own. The job reports at `report_socket`, its shim at `shim_socket`. `cgroup`
    is that of cgroup v2, `cgroups` those of v1; `bounded`: they keep the job below its limit of memory."""

    account: Account
    submitter: Submitter | None
    path: str
    lang: str
    tmpdir: str | None
    standby: str
    directory: str
    own_directory: str
    checkpoint_dir: str
    api_socket: str
    report_socket: str
    shim_socket: str
    master_port: int
    boot_id: str
    cgroup: str
    cgroups: list[str]
    bounded: bool
    umask: int
    linger_s: float
    kill_timeout_s: float
    lineage: str


def environment(job: Job, attempt_id: str, number: int, around: Surroundings) -> dict[str, str]:
    """Return the job's environment, except what depends on its GPUs (:func:`assignment`). Nothing of the
    daemon's own is passed on; what the user sets overrides the defaults, and leptond's own variables override
    both."""
    account = around.account
    grace_s = job.spec.grace_s or 0.0
    env = {
        "PATH": around.path,
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
        "SHELL": account.shell,
        "LANG": around.lang,
        "PYTHONUNBUFFERED": "1",
        "MASTER_ADDR": "127.0.0.1",
        "LEPTOND_HOST": f"unix://{around.api_socket}",
        # torchrun kills its workers 30 s after a SIGTERM unless it gets a longer grace
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(max(1, int(grace_s))),
        "TORCHELASTIC_ERROR_FILE": f"{around.own_directory}/{layout.ERROR}",
    }
    if around.tmpdir is not None:
        env["TMPDIR"] = around.tmpdir
    # the same for all attempts of a job, and for its retries
    run = f"leptond-{around.lineage[:8]}-{job.checkpoint_id}"
    env.update(trackers.variables(job.spec.track, run=run, checkpoint_dir=around.checkpoint_dir))
    env.update(job.spec.env)
    if job.spec.params:
        env["LEPTOND_SWEEP_PARAMS"] = msgspec.json.encode(job.spec.params).decode()
    if job.spec.rungs is not None:
        rungs = job.spec.rungs
        env["LEPTOND_SWEEP_RUNGS"] = f"{rungs.first or 0}:{rungs.eta}:{rungs.metric}"
    env.update(
        {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            # two torchruns on one machine would both take 29500
            "MASTER_PORT": str(around.master_port),
            "PET_MASTER_PORT": str(around.master_port),  # torchrun's own default for --master-port
            COOKIE: attempt_id,
            "LEPTOND_JOB_ID": str(job.id),
            "LEPTOND_JOB_NAME": job.name,
            "LEPTOND_ATTEMPT": str(number),
            "LEPTOND_CHECKPOINT_DIR": around.checkpoint_dir,
            "LEPTOND_RESUME": "1" if number > 1 or job.retry_of is not None else "0",
            "LEPTOND_SOCKET": around.report_socket,
            "LEPTOND_ATTEMPT_DIR": around.own_directory,
        }
    )
    if slurm.wanted(job):
        env.update(slurm.variables(job, number))
    if job.script_sha256 is not None:
        env["LEPTOND_SCRIPT"] = job.spec.argv[0]  # $0 is the copy
    if job.array_index is not None:
        env["LEPTOND_ARRAY_ID"] = str(job.array_id)
        env["LEPTOND_ARRAY_INDEX"] = str(job.array_index)
    return env


def assignment(given: Given, *, cpu_affinity: bool, by_index: bool = False) -> dict[str, Any]:
    """Return what is decided only with the claim, as JSON for the shim: it comes with GO. `by_index`: the
    program wants its GPUs as numbers, in the order of the PCI bus."""
    env = {
        "CUDA_VISIBLE_DEVICES": visible_devices(given.gpus, by_index=by_index),
        "LEPTOND_GPU_IDS": ",".join(str(gpu.index) for gpu in given.gpus),
    }
    shares = [gpu.memory_bytes for gpu in given.gpus if gpu.memory_bytes is not None]
    if shares:
        # for torch.cuda.set_per_process_memory_fraction: nothing else keeps the job within its share
        part = min(gpu.part for gpu in given.gpus)
        env["LEPTOND_GPU_MEMORY_BYTES"] = str(min(shares))
        env["LEPTOND_GPU_MEMORY_FRACTION"] = f"{part:.6f}"
    return {
        "env": env,
        "cpus": near_cpus(given.gpus) if cpu_affinity else [],
        "claim": {
            "claimed_at": given.claimed_at,
            "claimed_boot": given.claimed_boot,
            "gpus": msgspec.to_builtins(given.gpus),
        },
    }


def script_name(job: Job) -> str:
    """Return the name of the copy of a job's script: its own, which the shell's messages begin with."""
    name = posixpath.basename(job.spec.argv[0])
    return name if name not in ("", ".", "..") and len(name.encode()) <= 255 else "script"


def command(job: Job, directory: str, script: bytes | None) -> list[str]:
    """Return the words that are executed. `script`: what runs in place of ``argv[0]``, from a copy in the
    attempt's `directory`; a disk that is mounted without execution keeps no shell from reading it."""
    spec = job.spec
    if spec.shell:
        return ["/bin/sh", "-c", spec.argv[0]]
    if script is None:
        return spec.argv
    copy = f"{directory}/{layout.SCRIPT_DIR}/{script_name(job)}"
    return [*interpreter(script), copy, *spec.argv[1:]]


def visible_devices(gpus: Sequence[LeasedGpu], *, by_index: bool) -> str:
    """The value of CUDA_VISIBLE_DEVICES: an empty one hides every GPU, an unset one would show them all. A
    slice of MIG has no number of its own in CUDA.

    >>> visible_devices([LeasedGpu(uuid="GPU-a", index=3)], by_index=True)
    '3'
    """
    if by_index and not any(gpu.uuid.startswith("MIG-") for gpu in gpus):
        return ",".join(str(gpu.index) for gpu in gpus)
    return ",".join(gpu.uuid for gpu in gpus)


def describe(
    job: Job,
    attempt_id: str,
    number: int,
    around: Surroundings,
    *,
    script: bytes | None = None,
    refused: str | None = None,
) -> dict[str, Any]:
    """Return the launch description, as JSON for the shim, which adds LEPTOND_DEADLINE at the start. `script`
    as in :func:`command`; `refused`: why the command may not start at all."""
    warn = job.spec.warn_signal
    return {
        "attempt_id": attempt_id,
        "boot_id": around.boot_id,
        "claim": claim(job, number, around.lineage),
        "standby": around.standby,
        "directory": around.directory,
        "argv": command(job, around.directory, script),
        "env": environment(job, attempt_id, number, around),
        "cwd": job.spec.cwd,
        "umask": around.umask,
        "cgroup": around.cgroup,
        "cgroups": around.cgroups,
        "bounded": around.bounded,
        "mem_bytes": job.mem_bytes,
        "tag": tag_of(attempt_id),
        "time_limit_s": job.time_limit_s,
        "grace_s": job.spec.grace_s or 0.0,
        "warn_signal": signal_number(warn.signal) if warn is not None else None,
        "warn_before_s": warn.before_s if warn is not None else None,
        "warn_batch": warn.batch if warn is not None else False,
        "linger_s": around.linger_s,
        "kill_timeout_s": around.kill_timeout_s,
        "log_max_bytes": job.spec.log_max_bytes,
        "report_socket": around.shim_socket,
        "submitter": msgspec.to_builtins(around.submitter),
        "refused": refused,
    }


def near_cpus(gpus: Sequence[LeasedGpu]) -> list[int]:
    """Return the CPUs that are nearest to these GPUs; none (no preference) where they are unknown for one."""
    lists = [gpu.cpus for gpu in gpus]
    if not lists or None in lists:
        return []
    return sorted({cpu for text in lists if text is not None for cpu in cpu_list(text)})


def cpu_list(text: str) -> set[int]:
    """Return the numbers in a list as the kernel writes them; none when it cannot be parsed.

    >>> sorted(cpu_list("0-2,5"))
    [0, 1, 2, 5]
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            return set()
        found.update(range(int(first), int(last if dash else first) + 1))
    return found


def claim(job: Job, number: int, lineage: str) -> dict[str, Any]:
    """Return what the shim keeps beside its identity from GO on, so that a database which does not know the
    attempt (a backup was put back, the file was damaged) can take it in again: its database, and
    the job as it is at the start. Its GPUs are in the :func:`assignment`."""
    job = replace(job, state=State.STARTING, attempt=number, backoff_at=None, backoff_boot=None)
    return {"lineage": lineage, "job_id": job.id, "number": number, "job": msgspec.to_builtins(job)}


def signal_number(name: str) -> int:
    """Return the number of ``USR1`` or ``SIGUSR1``."""
    return int(signal.Signals["SIG" + name.removeprefix("SIG")])
