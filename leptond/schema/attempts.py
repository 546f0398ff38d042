"""Attempts, as bodies of the API."""

from __future__ import annotations

from datetime import datetime

import msgspec

from leptond.core.jobs.model import FailureClass
from leptond.core.jobs.sources import Note


class AttemptGpu(msgspec.Struct, kw_only=True):
    """`memory_bytes`: its share of the GPU's memory; null when it has the whole GPU."""

    uuid: str
    index: int
    memory_bytes: int | None = None


class Attempt(msgspec.Struct, kw_only=True):
    """One try at a job. `class` is null while it lives; `rule` names the rule that chose the class and
    `evidence` holds what it saw. `signature` knows the same failure again. `start`: how its command started,
    `warm` or `cold: ` and why. `notes`: what its owner should know, whatever became of it: a file of its
    command that was changed after the submit, a copy of its output that failed, processes left behind."""

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
    peak_mem_bytes: int | None = None
    notes: list[Note] = []
