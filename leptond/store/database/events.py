"""The append-only sequence of events: everything that anybody may want to follow."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from leptond.store.database.rows import shown

_data = msgspec.json.Decoder(dict[str, Any])


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `at` is UTC seconds."""

    id: int
    at: float
    type: str
    job_id: int | None
    attempt: int | None
    data: dict[str, Any]


def append(
    db: sqlite3.Connection,
    now: float,
    kind: str,
    *,
    job: int | None = None,
    attempt: int | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Add an event to the caller's transaction."""
    db.execute(
        "INSERT INTO events (at, type, job_id, attempt, data) VALUES (?, ?, ?, ?, ?)",
        (now, kind, job, attempt, msgspec.json.encode(data or {}).decode()),
    )


def after(
    db: sqlite3.Connection,
    last_id: int,
    *,
    limit: int,
    job: int | None = None,
    kinds: Sequence[str] = (),
) -> list[Event]:
    """Events with an id above `last_id`, oldest first (primary key; index events_job for one job)."""
    where, values = ["id > ?"], [last_id]  # type: tuple[list[str], list[Any]]
    if job is not None:
        where.append("job_id = ?")
        values.append(job)
    if kinds:
        where.append(f"type IN ({', '.join('?' * len(kinds))})")
        values.extend(kinds)
    rows = db.execute(
        f"SELECT * FROM events WHERE {' AND '.join(where)} ORDER BY id LIMIT ?", (*values, limit)
    )
    return [shown(dict(row), Event, {"data": _data.decode}, _INSTEAD) for row in rows]


_INSTEAD = {"data": {"unreadable": "its row in the database cannot be read"}}


def last_id(db: sqlite3.Connection) -> int:
    """The id of the newest event; 0 when there is none."""
    row = db.execute("SELECT max(id) FROM events").fetchone()
    return row[0] or 0
