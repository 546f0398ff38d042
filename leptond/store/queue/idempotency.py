"""Submits that may be sent twice and must count once."""

from __future__ import annotations

import sqlite3

from leptond.base.errors import Conflict

KEEP_S = 7 * 86400.0
"""Seconds for which a key is remembered."""

KEEP = 10_000
"""So many of the newest are remembered however old the wall clock makes them: it may be set forward between
a submit and its repetition."""

ONE_IN = "00"
"""Which submits forget old keys, by the begin of their digest: one of 256."""


def recall(db: sqlite3.Connection, user: str, key: str, body_sha256: str) -> str | None:
    """The answer (JSON) that was given to this key, or None when it is new. Raises Conflict when the key
    came before with another body."""
    row = db.execute(
        "SELECT body, answer FROM idempotency WHERE user = ? AND key = ?", (user, key)
    ).fetchone()
    if row is None:
        return None
    if row["body"] != body_sha256:
        raise Conflict(
            "this Idempotency-Key was used with another body", hint="use a new key for a new request"
        )
    answer: str = row["answer"]
    return answer


def remember(db: sqlite3.Connection, user: str, key: str, body_sha256: str, answer: str, now: float) -> None:
    """Keep the answer with the jobs it speaks of, in the same transaction."""
    db.execute(
        "INSERT INTO idempotency (user, key, body, answer, at) VALUES (?, ?, ?, ?, ?)",
        (user, key, body_sha256, answer, now),
    )
    if body_sha256.startswith(ONE_IN):
        forget(db, now)


def forget(db: sqlite3.Connection, now: float) -> None:
    """Forget keys that are old, except the newest."""
    db.execute(
        "DELETE FROM idempotency WHERE at < ?"
        " AND at < (SELECT at FROM idempotency ORDER BY at DESC LIMIT 1 OFFSET ?)",
        (now - KEEP_S, KEEP - 1),
    )
