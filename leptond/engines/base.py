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

    def stands(self, attempt_id: str) -> bool:
        """Whether a prepared attempt still stands at its gate."""

    async def undo(self, attempt_id: str) -> None:
        """Takes back a :meth:`prepare` of an attempt that was not claimed, without a trace."""

    async def clear_deck(self, live: Collection[str]) -> None:
        """After a start: removes what the last daemon had prepared, but for the attempts in `live`."""

    def go(self, attempt_id: str, given: Given) -> None:
        """Opens the gate: the attempt gets its GPUs and its command starts."""

    async def went(self, attempt_id: str, job_id: int, number: int, shim: Identity) -> list[str] | None:
        """After a start: with which GPUs (UUIDs) an attempt that an earlier daemon had prepared was told to
        go; None when it was not."""

    async def started(self, attempt_id: str) -> int | None:
        """After :meth:`go`: the command's pid, or None when it could not be executed."""

    def start_of(self, attempt_id: str) -> str | None:
        """How the command of an attempt started: ``warm`` or ``cold: WHY``; None where it is not known."""

    async def obstacle(self) -> str:
        """Why no attempt at all can be started now (no room for its files); empty when one can."""

    def abandon(self, attempt_id: str) -> None:
        """Shuts the gate for good: the command never starts."""

    def adopt(self, attempt: Attempt) -> bool:
        """Takes over an attempt that an earlier daemon started; False when nobody supervises it now."""

    def tell(self, job: Job, attempt: Attempt) -> None:
        """Tells a live attempt what was asked of its job's knobs. Best effort: it may have been told."""

    async def ended(self, job: Job, attempt: Attempt) -> End:
        """Waits until the last process of the attempt is gone."""

    def booked(self, attempt_id: str) -> None:
        """The end of an attempt is durable: what supervised it may go."""

    def stop(self, attempt: Attempt, reason: str, grace_s: float) -> None:
        """Asks a started attempt to stop: the signal, the grace, the kill. Durable."""

    def strays(self) -> set[str]:
        """Ids of the attempts that have processes on this machine, or their beginnings (15 digits or more),
        known to the database or not."""

    async def end_stray(self, attempt_id: str) -> None:
        """Ends what is left of an attempt that nobody follows."""
