"""The fields of a job as keywords of the Python clients.

Made from leptond/core/jobs/fields.py by python -m leptond.docs_build.reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Required, TypedDict


class JobFields(TypedDict, total=False):
    """What a job may be asked to be, beside its command."""

    gpus: int
    """How many whole GPUs [0, or jobs.gpus]."""
    gpu_type: str | None
    """Of this type: h100, a100-80gb; commas for any of."""
    gpu_memory_bytes: int | None
    """A share of a GPU: so much memory of each (bytes)."""
    preemptible: bool
    """It saves on SIGTERM and resumes: it may make room."""
    urgent: bool
    """Before every other job; needs the right."""
    exclusive: bool
    """No other job on its GPUs, whatever --gpu-mem says."""
    mem_bytes: int | None
    """The machine's memory that it may use (bytes)."""
    cpus: int | None
    """Its share of the CPUs where all are busy, as so many of them."""
    cuda_devices: str | None
    """How CUDA_VISIBLE_DEVICES names its GPUs: uuid, or index for programs that want numbers."""
    queue: str | None
    """The queue that it waits in [default]."""
    time_limit_s: float | None
    """Time limit (seconds)."""
    priority: int
    """Higher runs first, -1000 to 1000 [0]."""
    name: str | None
    """Its name [the script's or program's]."""
    cwd: str | None
    """Where it runs [here]."""
    env: Mapping[str, str]
    """Set a variable, or copy it from here."""
    after: Sequence[str]
    """After these have succeeded."""
    after_any: Sequence[str]
    """After these have ended."""
    after_fail: Sequence[str]
    """After these have failed."""
    array: str | None
    """Many jobs: 0-9, 1,3,5-7, 0-15:5; %4 runs at most 4 at a time."""
    retries: int | None
    """Retries after a failure of the job's own."""
    retry_delay_s: float | None
    """Wait before the first; doubles each time (seconds)."""
    retry_max_delay_s: float | None
    """Longest such wait (seconds)."""
    retry_on: Sequence[str]
    """Also retry: exit codes, SIGNALS, classes."""
    no_retry_on: Sequence[str]
    """Never retry these."""
    cold: bool
    """Start with an interpreter of its own, never from a warm process."""
    fail_fast: bool | None
    """Whether the same error twice ends the retries."""
    requeue: bool
    """Do not run it again after a crash of the machine."""
    grace_s: float | None
    """Between the stop signal (also that of the time limit) and the kill (seconds)."""
    warn_signal: Mapping[str, Any] | None
    """A signal before the time limit: {'signal': 'USR1', 'before_s': 120}."""
    no_progress_s: float | None
    """Stop it as hung when it reports no new step for so long (seconds)."""
    begin_at: str | None
    """Not before (RFC 3339)."""
    hold: bool
    """Wait until it is released."""
    project: str | None
    """What its time is booked on."""
    contact: str | None
    """Whom to tell about it: an address, a channel; webhooks carry it."""
    params: Mapping[str, int | float | str]
    """A parameter for leptond.job.params, as often."""
    labels: Mapping[str, str]
    """A label, as often as you like."""
    log_max_bytes: int | None
    """Most output to keep (bytes)."""
    output: str | None
    """Its output also there; %j job, %A_%a array, %x name."""
    open_mode: str | None
    """A file at --output: append to it [default] or truncate it."""
    track: Sequence[str]
    """One run over all attempts: wandb, tensorboard."""
    shell: bool
    """The command is one string for /bin/sh -c."""
    script: str | None
    rungs: Mapping[str, Any] | None


class JobWords(JobFields):
    """A job with its command."""

    argv: Required[Sequence[str]]


class JobChanges(TypedDict, total=False):
    """What may be changed of a job."""

    gpus: int
    """How many whole GPUs [0, or jobs.gpus]."""
    mem_bytes: int | None
    """The machine's memory that it may use (bytes)."""
    cpus: int | None
    """Its share of the CPUs where all are busy, as so many of them."""
    queue: str | None
    """The queue that it waits in [default]."""
    time_limit_s: float | None
    """Time limit (seconds)."""
    priority: int
    """Higher runs first, -1000 to 1000 [0]."""
    name: str | None
    """Its name [the script's or program's]."""
    retries: int | None
    """Retries after a failure of the job's own."""
    begin_at: str | None
    """Not before (RFC 3339)."""
    project: str | None
    """What its time is booked on."""
    contact: str | None
    """Whom to tell about it: an address, a channel; webhooks carry it."""
    labels: Mapping[str, str]
    """A label, as often as you like."""
