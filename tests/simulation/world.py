"""Time, chance and the trace of a simulation."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import Any

WALL_0 = 1_800_000_000.0
"""UTC seconds at which every simulation begins (January 2027)."""

TAIL = 60


class Violation(AssertionError):
    """An invariant does not hold."""


class Timer:
    """Something that will happen, unless it is cancelled."""

    __slots__ = ("args", "at", "call", "number")

    def __init__(
        self, at: float, number: int, call: Callable[..., None] | None, args: tuple[Any, ...]
    ) -> None:
        self.at, self.number, self.call, self.args = at, number, call, args

    def __lt__(self, other: Timer) -> bool:
        return (self.at, self.number) < (other.at, other.number)

    def cancel(self) -> None:
        self.call = None


class World:
    """`now` is in seconds since the simulation began. One seed; every part that rolls dice has a stream of
    its own, so that a change in one does not shift the others."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        self.boot_began = -3600.0
        self.boots = 0
        self.wall_offset = 0.0
        self.events = 0
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.echo: Callable[[str], None] | None = None
        self.stop_after: int | None = None
        self._digest = hashlib.sha256()
        self._heap: list[Timer] = []
        self._number = 0

    def dice(self, name: str) -> random.Random:
        """The stream of chance called `name`."""
        return random.Random(f"{self.seed}/{name}")

    # -- clocks (leptond.base.clock.Clock) ----------------------------------------------------------------

    def wall(self) -> float:
        return WALL_0 + self.now + self.wall_offset

    def boot(self) -> float:
        return self.now - self.boot_began

    @property
    def boot_id(self) -> str:
        return f"boot-{self.seed}-{self.boots}"

    # -- what will happen ----------------------------------------------------------------------------

    def after(self, delay_s: float, call: Callable[..., None], *args: Any) -> Timer:
        """Calls `call` in `delay_s` seconds."""
        self._number += 1
        timer = Timer(self.now + delay_s, self._number, call, args)
        heapq.heappush(self._heap, timer)
        return timer

    def next_at(self) -> float | None:
        heap = self._heap
        while heap and heap[0].call is None:
            heapq.heappop(heap)
        return heap[0].at if heap else None

    def happen(self) -> None:
        """Lets the next thing happen. Time moves on to it."""
        timer = heapq.heappop(self._heap)
        assert timer.call is not None
        self.now = max(self.now, timer.at)
        timer.call(*timer.args)

    # -- the trace -----------------------------------------------------------------------------------

    def note(self, what: str) -> None:
        """An event: into the digest, and into the tail that a failure prints."""
        self.events += 1
        line = f"{self.now:.6f} {what}"
        self._digest.update(line.encode())
        self.tail.append(line)
        if self.echo is not None:
            self.echo(f"{self.events} {line}")
        if self.stop_after is not None and self.events >= self.stop_after:
            raise Violation(f"stopped after {self.events} events, as asked")

    def digest(self) -> str:
        """SHA-256 over all events so far."""
        return self._digest.hexdigest()
