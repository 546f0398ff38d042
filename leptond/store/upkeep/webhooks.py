"""Webhooks: the last event that each has got, and the log of what was sent."""

from __future__ import annotations

import sqlite3

import msgspec

from leptond.store.database import events
from leptond.store.database.rows import text_or

_results = msgspec.json.Decoder(dict[str, int])

KEPT = 1000
"""Deliveries of a hook that the log keeps."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one hook. `result` is delivered, refused (not worth another try) or failed (given up
    after several); `status` is the last answer's, None when there was none. `at` is UTC seconds."""

    hook: str
    event_id: int
    event: str
    at: float
    tries: int
    result: str
    status: int | None
    error: str | None


def position(db: sqlite3.Connection, hook: str) -> int:
    """The last event that is done with. A new hook begins with what comes from now on."""
    last = events.last_id(db)
    db.execute("INSERT OR IGNORE INTO webhooks (name, event_id) VALUES (?, ?)", (hook, last))
    return position_of(db, hook, last)


def position_of(db: sqlite3.Connection, hook: str, otherwise: int) -> int:
    """The same, without making a new hook known."""
    row = db.execute("SELECT event_id FROM webhooks WHERE name = ?", (hook,)).fetchone()
    return int(row["event_id"]) if row is not None else otherwise


def passed(db: sqlite3.Connection, hook: str, event_id: int) -> None:
    """Events up to this one are done with."""
    db.execute("UPDATE webhooks SET event_id = ? WHERE name = ? AND event_id < ?", (event_id, hook, event_id))


def done(db: sqlite3.Connection, one: Delivery) -> None:
    """Log a delivery and move on: from here it is never sent again."""
    db.execute(
        "INSERT INTO webhook_deliveries (hook, event_id, event, at, tries, result, status, error)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (one.hook, one.event_id, one.event, one.at, one.tries, one.result, one.status, one.error),
    )
    db.execute(
        "DELETE FROM webhook_deliveries WHERE hook = ? AND id <= (SELECT max(id) FROM webhook_deliveries"
        " WHERE hook = ?) - ?",
        (one.hook, one.hook, KEPT),
    )
    db.execute(
        "UPDATE webhooks SET results = json_set(results, '$.' || ?,"
        " coalesce(json_extract(results, '$.' || ?), 0) + 1) WHERE name = ?",
        (one.result, one.result, one.hook),
    )
    passed(db, one.hook, one.event_id)


def deliveries(db: sqlite3.Connection, hook: str, limit: int) -> list[Delivery]:
    """The newest deliveries of a hook, newest first (index webhook_deliveries_hook, migration 0007)."""
    rows = db.execute(
        "SELECT * FROM webhook_deliveries WHERE hook = ? ORDER BY id DESC LIMIT ?", (hook, limit)
    ).fetchall()
    return [
        Delivery(
            hook=row["hook"],
            event_id=row["event_id"],
            event=row["event"],
            at=row["at"],
            tries=row["tries"],
            result=row["result"],
            status=row["status"],
            error=row["error"],
        )
        for row in rows
    ]


def totals(db: sqlite3.Connection) -> dict[str, int]:
    """Count the deliveries, by result, over all hooks."""
    found: dict[str, int] = {"delivered": 0, "refused": 0, "failed": 0}
    for row in db.execute("SELECT results FROM webhooks"):
        for result, n in text_or(_results.decode, row["results"], {}).items():
            found[result] = found.get(result, 0) + n
    return found
