"""Elapsed times that a setting of the wall clock does not move. Pure."""

from __future__ import annotations

TOLERATED_S = 1.0
"""A smaller difference of the clocks is none: the wall clock is kept right in small steps."""


def since(at: float, at_boot: float, *, now: float, boot: float) -> float:
    """Return the wall time of something that happened at `at`, by the boot clock at `at_boot`, as the wall
    clock of `now` (`boot`) counts: another one than `at` if that clock was set in between.

    >>> since(1000.0, 50.0, now=1010.0, boot=60.0), since(1000.0, 50.0, now=9010.0, boot=60.0)
    (1000.0, 9000.0)
    """
    if boot < at_boot:
        return at  # of an earlier boot
    moved = now - (boot - at_boot)
    return at if abs(moved - at) <= TOLERATED_S else moved
