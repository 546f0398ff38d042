"""The database file while no daemon runs on it: its lineage, its migration, and the making of a new one."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from leptond.store.database.connection import Connection, prepare_writer
from leptond.store.database.examine import looked_at
from leptond.store.database.migrate import migrate, version
from leptond.store.database.sqlite_errors import store_errors


def lineage_in(file: Path) -> str | None:
    """The lineage of the database `file`, which is not changed; None where it has none yet. Raises
    StoreError, OSError."""
    with store_errors(), looked_at(file) as db:
        row = db.execute("SELECT value FROM meta WHERE key = 'lineage'").fetchone()
    return row["value"] if row is not None else None


def migrate_file(file: Path, migrations: Path) -> tuple[list[str], int]:
    """Bring the database `file` to the newest schema; the names of the applied files and the number of the
    schema. Raises StoreError, and StartRefused as :func:`migrate`."""
    with store_errors(), contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
        prepare_writer(db)
        return migrate(db, migrations), version(db)


@contextlib.contextmanager
def opened(file: Path) -> Iterator[Connection]:
    """A connection that writes to the database `file`, which then is one file without a log. Raises
    StoreError."""
    with store_errors(), contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
        prepare_writer(db)
        yield db
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("PRAGMA journal_mode = DELETE")


@contextlib.contextmanager
def transaction(db: Connection) -> Iterator[None]:
    """One transaction of a connection from :func:`opened`; the block's exception leaves it uncommitted."""
    db.execute("BEGIN IMMEDIATE")
    yield
    db.execute("COMMIT")
