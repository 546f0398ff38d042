"""The run loop of every service: a step when it is woken or due, and no timer in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from leptond.store import StoreError

log = structlog.get_logger("leptond.services")

MAX_RETRY_S = 15.0
"""Longest pause after failures in a row, unless a service asks for a longer one from the first."""


class Loop:
    """Runs `step` `first_s` seconds after the start, then whenever :meth:`wake` is called or the seconds that
    the step returned have passed (None: only when woken). Wakes within `gather_s` seconds make one step.

    An error of the store or the disk is logged as ``service.failed``, and the step is run again after
    `retry_s` seconds, doubled up to MAX_RETRY_S while it goes on failing. Any other error ends the loop."""

    def __init__(
        self,
        name: str,
        step: Callable[[], Awaitable[float | None]],
        *,
        first_s: float = 0.0,
        gather_s: float = 0.0,
        retry_s: float = 5.0,
    ) -> None:
        self.name = name
        self._step = step
        self._first_s = first_s
        self._gather_s = gather_s
        self._retry_s = retry_s
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Makes a step due now; during a step, another one after it."""
        self._woken.set()

    async def run(self) -> None:
        """Runs until cancelled."""
        delay_s: float | None = self._first_s
        failures = 0
        while True:
            await self._wait(delay_s)
            self._woken.clear()
            try:
                delay_s = await self._step()
                failures = 0
            except (OSError, StoreError) as error:
                retry_s = min(self._retry_s * 2**failures, max(self._retry_s, MAX_RETRY_S))
                failures += 1
                log.error("service.failed", service=self.name, error=str(error), retry_s=retry_s)
                await asyncio.sleep(retry_s)
                delay_s = 0.0

    async def _wait(self, delay_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._woken.wait()
                await asyncio.sleep(self._gather_s)
