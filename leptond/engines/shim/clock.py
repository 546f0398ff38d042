"""The clock that limits and graces are kept by."""

from __future__ import annotations

import time


def boot_now() -> float:
    """Return the seconds of CLOCK_BOOTTIME: it is never set, and it counts suspend."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
