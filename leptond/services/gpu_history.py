"""The last day of every device by minutes, in memory, for display only.

The durable facts (leases, energy, idle time) are in the database.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from leptond.gpus.base import Sample

N = TypeVar("N", int, float)

BUCKET_S = 60.0
KEPT_BUCKETS = 24 * 60


class Bucket(msgspec.Struct, kw_only=True):
    """One minute of one device; `at` is its begin in UTC seconds. None: the device does not report it."""

    at: float
    samples: int = 0
    utilization: float | None = None
    memory_used_bytes: int | None = None
    power_w: float | None = None
    temperature_c: float | None = None


class GpuHistory:
    """Means of utilisation and power and peaks of memory and temperature, by minute."""

    def __init__(self) -> None:
        self._buckets: dict[str, deque[Bucket]] = {}

    def observe(self, sample: Sample) -> None:
        """Add a sample. Those of one device come in order of time; if the wall clock jumps back, they count
        for the newest minute."""
        kept = self._buckets.setdefault(sample.uuid, deque(maxlen=KEPT_BUCKETS))
        at = sample.sampled_at - sample.sampled_at % BUCKET_S
        if not kept or kept[-1].at < at:
            kept.append(Bucket(at=at))
        bucket = kept[-1]
        bucket.samples += 1
        bucket.utilization = _mean(bucket.utilization, sample.utilization, bucket.samples)
        bucket.power_w = _mean(bucket.power_w, sample.power_w, bucket.samples)
        bucket.memory_used_bytes = _peak(bucket.memory_used_bytes, sample.memory_used_bytes)
        bucket.temperature_c = _peak(bucket.temperature_c, sample.temperature_c)

    def since(self, uuid: str, at: float) -> Sequence[Bucket]:
        """Minutes of a device from `at` (UTC seconds) on, oldest first, without those that have no
        samples."""
        return [bucket for bucket in self._buckets.get(uuid, ()) if bucket.at + BUCKET_S > at]


def _mean(mean: float | None, value: float | None, n: int) -> float | None:
    if value is None:
        return mean
    return value if mean is None else mean + (value - mean) / n


def _peak(peak: N | None, value: N | None) -> N | None:
    if value is None:
        return peak
    return value if peak is None else max(peak, value)
