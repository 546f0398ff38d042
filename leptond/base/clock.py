"""The only source of "now".

Wall time is for people (and may jump). Boot time (CLOCK_BOOTTIME) runs evenly, counts suspend, and is
what limits, back-off and durations are measured by; it means something only under one boot id.
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Wall and boot seconds, and the id of this boot."""

    def wall(self) -> float:
        """UTC seconds since the epoch."""

    def boot(self) -> float:
        """Seconds of CLOCK_BOOTTIME."""

    @property
    def boot_id(self) -> str:
        """The kernel's random id of this boot."""


@cache
def kernel_boot_id() -> str:
    """The id in /proc/sys/kernel/random/boot_id."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


JUMP_S = 2.0
"""A change of the wall clock against the boot clock that is more than the small steps that keep it right."""


class ClockJumps:
    """Notices that the wall clock was set, by comparing it with the boot clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_s = self._offset()

    def any(self) -> bool:
        """Return True if it was set since the last call."""
        before, self._offset_s = self._offset_s, self._offset()
        return abs(self._offset_s - before) > JUMP_S

    def _offset(self) -> float:
        return self._clock.wall() - self._clock.boot()


class SystemClock:
    """The machine's own clocks."""

    def wall(self) -> float:
        return time.time()

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    @property
    def boot_id(self) -> str:
        return kernel_boot_id()
