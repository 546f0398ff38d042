"""The protocol of an engine: it runs attempts and reports how they ended."""

from __future__ import annotations

import errno
from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec

from leptond.core.jobs.model import Attempt, Identity, Job, LeasedGpu
from leptond.core.outcome.evidence import End


class SpawnFailed(Exception):
    """An attempt could not be brought to its gate: a fault of the machine, not of the job. `number` is the
    errno, where there is one."""

    def __init__(self, text: str, number: int = errno.EAGAIN) -> None:
        super().__init__(text)
        self.number = number


NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Errors of a disk that takes nothing: every other job would fail in the same way."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """The assignment of a claimed attempt: its GPUs, and the time of the claim (wall and boot time)."""

    gpus: Sequence[LeasedGpu]
    claimed_at: float
    claimed_boot: float


def given(attempt: Attempt) -> Given:
    """Return the assignment of a claimed attempt."""
    return Given(gpus=attempt.gpus, claimed_at=attempt.claimed_at, claimed_boot=attempt.claimed_boot)


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A start in a succession: the slot of the attempt `after` was taken (None: it is not known which), with
    these GPUs (UUIDs), at this time (wall and boot time)."""

    after: str | None
    gpus: Sequence[str]
    claimed_at: float
    claimed_boot: float


class Engine(Protocol):
    """A place where attempts run. No command starts before :meth:`go`."""

    async def prepare(self, job: Job, attempt_id: str) -> Identity:
        """Bring the next attempt of `job` to its gate, claimed or not, and return the identity of its
        supervisor. Raises SpawnFailed."""

    def is_prepared(self, attempt_id: str) -> bool:
        """Return True if a prepared attempt is still waiting at its gate."""

    async def discard(self, attempt_id: str) -> None:
        """Take back a :meth:`prepare` of an attempt that was not claimed, and remove its files."""

    async def clear_standby(self, live: Collection[str]) -> None:
        """Remove what an earlier daemon had prepared, except the attempts in `live`."""

    def go(self, attempt_id: str, given: Given) -> None:
        """Open the gate: the attempt gets its GPUs and its command starts."""

    def succeed(
        self,
        name: str,
        attempt_id: str,
        slots: Sequence[Sequence[LeasedGpu]],
        *,
        behind: str | None,
        until_boot: float | None,
    ) -> bool:
        """Let a prepared attempt wait in the succession `name`, which is made where it does not exist, for
        one of these slots, behind the attempt `behind` (None: it is the first). From now on it may start at
        any moment; :meth:`outcome` tells. False if its supervisor is gone."""

    def hand_on(self, name: str, attempt_id: str, *, until_boot: float | None) -> bool:
        """Let a running attempt give its slot to the succession `name` if it ends well before `until_boot`
        (boot time). False where that is not possible: its end is an ordinary one then."""

    def give_turn(self, attempt_id: str) -> None:
        """Let an attempt that waits in a succession take the next slot."""

    def withdraw(self, attempt_id: str) -> None:
        """Take an attempt out of its succession; :meth:`outcome` tells if it has started before."""

    async def outcome(self, attempt_id: str, job_id: int, number: int) -> Taken | None:
        """Wait for what becomes of an attempt in a succession: it has started, or (None) it has not and will
        not. Once for each :meth:`succeed`."""

    def end_succession(self, name: str) -> None:
        """Forget a succession in which nobody waits any more: slots that nobody has taken are free."""

    async def taken(self, attempt_id: str, job_id: int, number: int, shim: Identity) -> Taken | None:
        """Return how a prepared attempt of an earlier daemon has started in a succession; None if it has
        not."""

    async def started(self, attempt_id: str) -> int | None:
        """After :meth:`go`: return the command's pid, or None when it could not be executed."""

    async def warmer(self) -> None:
        """Wait until attempts that are prepared may start in a better way if they are prepared anew."""

    def is_outdated(self, attempt_id: str) -> bool:
        """Return True if a prepared attempt would start in a better way if it were prepared anew."""

    def start_mode(self, attempt_id: str) -> str | None:
        """Return how the command of an attempt started: ``warm`` or ``cold: WHY``; None if unknown."""

    async def check_writable(self) -> str:
        """Try whether the files of an attempt can be written: the error, or an empty string."""

    def abandon(self, attempt_id: str) -> None:
        """Shut the gate for good: the command never starts."""

    def adopt(self, attempt: Attempt) -> bool:
        """Take over an attempt that an earlier daemon started; False when it has no supervisor any more."""

    def is_alive(self, attempt_id: str) -> bool:
        """Return True while the supervisor of a started or adopted attempt lives."""

    def push_knobs(self, job: Job, attempt: Attempt) -> None:
        """Pass the current values of the job's knobs to a live attempt. Best effort; may be repeated."""

    async def ended(self, job: Job, attempt: Attempt) -> End:
        """Wait until the last process of the attempt is gone."""

    def ack_end(self, attempt_id: str) -> None:
        """Acknowledge that the end of an attempt is durable, so that its supervisor may let go of it."""

    def stop(self, attempt: Attempt, reason: str, grace_s: float) -> None:
        """Stop a started attempt: the signal, the grace, the kill. Durable."""

    def orphans(self) -> set[str]:
        """Return the ids of attempts that have processes on this machine, or prefixes of ids (15 digits or
        more), known to the database or not."""

    async def end_orphan(self, attempt_id: str, job_id: int, number: int) -> None:
        """Kill the remaining processes of an untracked attempt."""
