"""The sequence of events."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Event(msgspec.Struct, kw_only=True):
    """One row of the append-only event table; ids only grow, so that a reader can resume. `ref`: what people
    call the job (`47_3`), while it is known."""

    id: int
    at: datetime
    type: str
    job_id: int | None = None
    attempt: int | None = None
    data: dict[str, Any] = {}
    ref: str | None = None


class EventPage(msgspec.Struct, kw_only=True):
    items: list[Event]
    next_cursor: str | None = None
