"""What an engine can do: run attempts and say how they ended."""

from __future__ import annotations

import errno
from typing import Protocol

import msgspec

from leptond.core.model import Attempt, ExitRecord, Identity, Job
from leptond.core.outcome import Word


class SpawnFailed(Exception):
    """The attempt could not be brought to its gate: the machine's fault, not the job's. `number` is the
    errno, where there is one."""

    def __init__(self, text: str, number: int = errno.EAGAIN) -> None:
        super().__init__(text)
        self.number = number


NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""The disk takes nothing: the next job would fare like the last."""


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

    async def spawn(self, job: Job, attempt: Attempt) -> Identity:
        """Brings the attempt to its gate: who supervises it. Raises SpawnFailed."""

    async def go(self, attempt_id: str) -> int | None:
        """Opens the gate; the command's pid, or None when it could not be executed."""

    async def obstacle(self) -> str:
        """Why no attempt at all can be started now (no room for its files); empty when one can."""

    def abandon(self, attempt_id: str) -> None:
        """Shuts the gate for good: the command never starts."""

    def adopt(self, attempt: Attempt) -> bool:
        """Takes over an attempt that an earlier daemon started; False when nobody supervises it now."""

    def tell(self, job: Job, attempt: Attempt) -> None:
        """Tells a live attempt what was asked of its job's knobs. Best effort: it may have been told."""

    async def ended(self, job: Job, attempt: Attempt) -> End:
        """Waits until the attempt and its last process are gone."""

    def stop(self, attempt: Attempt, reason: str, grace_s: float) -> None:
        """Asks a started attempt to stop: the signal, the grace, the kill. Durable."""

    def strays(self) -> set[str]:
        """Ids of the attempts that have processes on this machine, or their beginnings (15 digits or more),
        known to the database or not."""

    async def end_stray(self, attempt_id: str) -> None:
        """Ends what is left of an attempt that nobody follows."""
