"""Curves of metrics."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class MetricPoint(msgspec.Struct, kw_only=True):
    """The values that an attempt reported at a moment."""

    attempt: int
    step: int | None
    at: datetime
    values: dict[str, float | None]


class MetricMark(msgspec.Struct, kw_only=True):
    """A moment that the curve should be read with: a knob that was turned, or took effect."""

    kind: str
    attempt: int | None
    at: datetime
    data: dict[str, Any]


class MetricCurve(msgspec.Struct, kw_only=True):
    """The curve of a job over all its attempts: every `stride`-th of the `reports` that came. `marks`: knobs
    that were turned (job.tune, job.tuned) and checkpoints (job.checkpoint)."""

    job_id: int
    stride: int
    reports: int
    points: list[MetricPoint]
    marks: list[MetricMark] = []
