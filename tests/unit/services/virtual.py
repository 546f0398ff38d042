"""An event loop in virtual time for services that need no threads: hours pass in no time, and every wake-up
is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from tests.simulation.loop import VirtualLoop


class VirtualTime:
    """Virtual seconds since the start, as a clock for the code under test and as the time of its loop."""

    boot_id = "boot"

    def __init__(self) -> None:
        self.now = 0.0
        self.wakeups = 0
        self.loop = VirtualLoop(lambda: self.now)

    def wall(self) -> float:
        return self.now

    def boot(self) -> float:
        return self.now

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of the loop, which runs when time passes."""
        return self.loop.create_task(coroutine)

    def pass_s(self, seconds: float) -> None:
        """Runs everything that happens in the next `seconds`."""
        end = self.now + seconds
        asyncio._set_running_loop(self.loop)
        try:
            while True:
                while self.loop.step():
                    pass
                at = self.loop.next_at()
                if at is None or at > end:
                    break
                self.now = max(self.now, at)
                self.wakeups += 1
                self.loop.wake()
        finally:
            asyncio._set_running_loop(None)
        self.now = end


@pytest.fixture
def time() -> Iterator[VirtualTime]:
    one = VirtualTime()
    yield one
    one.loop.abandon()
