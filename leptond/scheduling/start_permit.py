"""The permit to start attempts at all: there is free space on the disk, and it takes an attempt's files.
Otherwise every job of the queue would spend its retries on the same fault."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from leptond.base.clock import Clock
from leptond.engines.base import NO_SPACE, Engine

log = structlog.get_logger("leptond.scheduler")

NO_SPACE_S = 5.0
"""Pause of starts while the disk has no free space for them."""

RETRY_S = 2.0
"""Pause of starts before a disk that took nothing is tried again."""


class StartPermit:
    """Shared by the scheduler and the hand-over, which ask, and the supervisor, which sees starts fail.
    `has_space` returns True while the disk has free space for what jobs write."""

    def __init__(self, engine: Engine, clock: Clock, has_space: Callable[[], bool] = lambda: True) -> None:
        self._engine = engine
        self._clock = clock
        self._has_space = has_space
        self._error = ""
        self._retry_at = 0.0

    def failed(self, number: int | None) -> None:
        """An attempt could not be started, with this errno: starts wait if that is the disk's fault."""
        if number in NO_SPACE:
            self._error = self._error or "not tried yet"

    def likely(self) -> bool:
        """Return True if a start is possible, as far as is known without trying."""
        return self._has_space() and not self._error

    async def wait_s(self) -> float:
        """Return how long starts have to wait, in seconds: 0 if they need not. Tries the disk once it has
        failed."""
        if not self._has_space():
            return NO_SPACE_S
        if not self._error:
            return 0.0
        if self._clock.boot() >= self._retry_at:
            error = await self._engine.check_writable()
            self._retry_at = self._clock.boot() + RETRY_S
            if error and error != self._error:
                log.error("starts.blocked", error=error, retry_s=RETRY_S)
            self._error = error
        return RETRY_S if self._error else 0.0
