"""Scripts as they were at the submit, each content once. A trigger removes one with the last job that runs
it."""

from __future__ import annotations

import sqlite3

from leptond.core.admission.admission import Script


def keep(db: sqlite3.Connection, script: Script | None) -> None:
    """Store a script, in the transaction of the job that runs it."""
    if script is not None and script.text is not None:
        put_back(db, script.sha256, script.text.encode())


def put_back(db: sqlite3.Connection, sha256: str, content: bytes) -> None:
    """Store a script of that SHA-256, if the database has lost it."""
    db.execute("INSERT OR IGNORE INTO scripts (sha256, content) VALUES (?, ?)", (sha256, content))


def content(db: sqlite3.Connection, sha256: str) -> bytes | None:
    """The script of that SHA-256; None where the database has lost it."""
    row = db.execute("SELECT content FROM scripts WHERE sha256 = ?", (sha256,)).fetchone()
    return row["content"] if row is not None else None
