"""Bodies of the timeline of GPU use."""

from __future__ import annotations

from datetime import datetime

import msgspec

from leptond.core.jobs.model import FailureClass


class Bar(msgspec.Struct, kw_only=True):
    """An attempt in the picture of who had which GPU. `ended_at` is null while it lives."""

    job_id: int
    ref: str
    name: str
    user: str
    attempt: int
    state: str
    class_: FailureClass | None = msgspec.field(name="class", default=None)
    exit_code: int | None = None
    gpu_indices: list[int]
    claimed_at: datetime
    ended_at: datetime | None = None


class Timeline(msgspec.Struct, kw_only=True):
    """Attempts that held GPUs between `since` and `until`, newest first. `more`: older ones were left
    out."""

    since: datetime
    until: datetime
    items: list[Bar]
    more: bool
