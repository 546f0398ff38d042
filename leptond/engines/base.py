"""What an engine can do: run attempts and say how they ended."""

from __future__ import annotations

import errno
from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec

from leptond.core.jobs.model import Attempt, ExitRecord, Identity, Job, LeasedGpu
from leptond.core.outcome.classify import Word


class SpawnFailed(Exception):
    """The attempt could not be brought to its gate: the machine's fault, not the job's. `number` is the
    errno, where there is one."""

    def __init__(self, text: str, number: int = errno.EAGAIN) -> None:
        super().__init__(text)
        self.number = number


NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""The disk takes nothing: the next job would fare like the last."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt has from its claim on: its GPUs, since when (wall and boot time)."""

    gpus: Sequence[LeasedGpu]
    claimed_at: float
    claimed_boot: float


def given(attempt: Attempt) -> Given:
    """What a claimed attempt has."""
    return Given(gpus=attempt.gpus, claimed_at=attempt.claimed_at, claimed_boot=attempt.claimed_boot)


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended: the shim's record, or, without one, why there is none."""

    record: ExitRecord | None
    boot_changed: bool = False
    shim_lost: bool = False
    error_file: str | None = None
    word: Word | None = None
    log_tail: str = ""


class Engine(Protocol):
    """Where attempts run. Nothing starts before :meth:`go`."""

    async def prepare(self, job: Job, attempt_id: str) -> Identity:
        """Brings the next attempt of `job` to its gate, claimed or not: who supervises it. Raises
        SpawnFailed."""

    def is_prepared(self, attempt_id: str) -> bool:
        """Return True if a prepared attempt is still waiting at its gate."""

    async def discard(self, attempt_id: str) -> None:
        """Take back a :meth:`prepare` of an attempt that was not claimed, and remove its files."""

    async def clear_standby(self, live: Collection[str]) -> None:
        """Remove what an earlier daemon had prepared, except the attempts in `live`."""

    def go(self, attempt_id: str, given: Given) -> None:
        """Opens the gate: the attempt gets its GPUs and its command starts."""

    async def released_gpus(
        self, attempt_id: str, job_id: int, number: int, shim: Identity
    ) -> list[str] | None:
        """Return the GPUs (UUIDs) with which an earlier daemon had opened the gate of a prepared attempt;
        None if it had not."""

    async def started(self, attempt_id: str) -> int | None:
        """After :meth:`go`: the command's pid, or None when it could not be executed."""

    def start_mode(self, attempt_id: str) -> str | None:
        """Return how the command of an attempt started: ``warm`` or ``cold: WHY``; None if unknown."""

    async def check_writable(self) -> str:
        """Try whether the files of an attempt can be written: the error, or an empty string."""

    def abandon(self, attempt_id: str) -> None:
        """Shuts the gate for good: the command never starts."""

    def adopt(self, attempt: Attempt) -> bool:
        """Takes over an attempt that an earlier daemon started; False when nobody supervises it now."""

    def push_knobs(self, job: Job, attempt: Attempt) -> None:
        """Pass the current values of the job's knobs to a live attempt. Best effort; may be repeated."""

    async def ended(self, job: Job, attempt: Attempt) -> End:
        """Waits until the last process of the attempt is gone."""

    def ack_end(self, attempt_id: str) -> None:
        """Acknowledge that the end of an attempt is durable, so that its supervisor may let go of it."""

    def stop(self, attempt: Attempt, reason: str, grace_s: float) -> None:
        """Asks a started attempt to stop: the signal, the grace, the kill. Durable."""

    def orphans(self) -> set[str]:
        """Return the ids of attempts that have processes on this machine, or prefixes of ids (15 digits or
        more), known to the database or not."""

    async def end_orphan(self, attempt_id: str) -> None:
        """Kill the remaining processes of an untracked attempt."""
