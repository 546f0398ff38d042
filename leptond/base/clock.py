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


class SystemClock:
    """The machine's own clocks."""

    def wall(self) -> float:
        return time.time()

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    @property
    def boot_id(self) -> str:
        return kernel_boot_id()
