"""Faults that are put into a daemon on purpose, to see that a campaign finds them. They run in the child of
a template before it becomes a daemon; a release has no way to them."""

from __future__ import annotations

import sqlite3

from leptond.scheduling import standby, start_permit
from leptond.store.database import connection


def lazy_sync() -> None:
    """Commits are answered before they are synced."""
    careful = connection.prepare_writer

    def prepare(db: sqlite3.Connection) -> None:
        careful(db)
        db.execute("PRAGMA synchronous = NORMAL")

    connection.prepare_writer = prepare


def short_pauses() -> None:
    """No fault: what a disk refused is tried again soon."""
    standby.PAUSE_S = start_permit.NO_SPACE_S = start_permit.RETRY_S = 0.5
