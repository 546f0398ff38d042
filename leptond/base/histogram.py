"""A histogram of durations."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

FAST_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Bucket limits in seconds for what takes milliseconds."""


class DurationHistogram:
    """`bounds` are the upper limits of the buckets, ascending, in seconds; above the last there is no limit.
    For one thread."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        """Add a duration."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.total_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return the cumulative buckets of Prometheus: the limit as text, and how many took no longer.

        >>> some = DurationHistogram((0.1, 1.0)); some.observe(0.1); some.observe(5.0); some.buckets()
        [('0.1', 1), ('1.0', 1), ('+Inf', 2)]
        """
        found: list[tuple[str, float]] = []
        sum_so_far = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            sum_so_far += count
            found.append((bound, sum_so_far))
        return found
