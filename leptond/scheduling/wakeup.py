"""The reasons that wake the scheduler: commits, changes outside of the database, prepared attempts that reach
their gates, and time. Everything that wakes it has this one object."""

from __future__ import annotations

import asyncio

from leptond.base.clock import Clock
from leptond.core.scheduling.handover import WakeReason


class Wakeup:
    """The reasons that have come together since the scheduler has last taken them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = asyncio.Event()
        self._since: float | None = None
        self.reasons = WakeReason.NONE

    def committed(self) -> None:
        """A commit may let a job start."""
        self._note(WakeReason.COMMIT)

    def changed(self) -> None:
        """Something that is not in the database may let a job start, or keep one from it."""
        self._note(WakeReason.EXTERNAL)

    def prepared(self) -> None:
        """A prepared attempt has reached its gate."""
        self.reasons |= WakeReason.STANDBY
        self._changed.set()

    def timer(self) -> None:
        """The time is over that the last pass allowed."""
        self.reasons |= WakeReason.TIMER

    def _note(self, reason: WakeReason) -> None:
        self.reasons |= reason
        if self._since is None:
            self._since = self._clock.wall()
        self._changed.set()

    def arm(self) -> None:
        """Let the next :meth:`wait` end for what comes from now on."""
        self._changed.clear()

    def clear(self) -> float | None:
        """Forget all reasons. Returns since when there has been one of those that call for a pass (wall
        time)."""
        since, self._since = self._since, None
        self.reasons = WakeReason.NONE
        return since

    async def wait(self, until: float) -> None:
        """Wait for the next reason. At `until` (loop time) that is the timer."""
        try:
            async with asyncio.timeout_at(until):
                await self._changed.wait()
        except TimeoutError:
            self.timer()
