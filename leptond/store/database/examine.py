"""Looks at a database without changing a byte of it, before anything opens it for writing.

A read-only connection would still make a ``-shm`` file beside the database, so the look goes through a
private directory of hard links: the same data and the same log, and SQLite's own bookkeeping elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from leptond.base.errors import StartRefused
from leptond.store.database.sqlite_errors import Damaged, open_refused

SIDECARS = ("-wal", "-shm", "-journal")
"""The suffixes of the files that SQLite keeps beside a database, which is whole only with them."""

CHECK_BYTES = 64 * 1024 * 1024
"""Up to this size the whole database is checked at every start (some tenths of a second)."""

OURS = frozenset({"jobs", "attempts", "leases", "events", "meta"})


@contextlib.contextmanager
def looked_at(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection to the database at `path` with its log; neither is changed. Raises
    sqlite3.DatabaseError, OSError."""
    with tempfile.TemporaryDirectory(prefix=".look-", dir=path.parent) as place:
        twin = Path(place) / path.name
        # a journal (of a start that was killed before the log was in use) has to be rolled back to be read:
        # in a copy, so that the file itself stays as it is
        journal = Path(f"{path}-journal").exists()
        for suffix in ("", "-wal", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                (shutil.copyfile if journal else _link)(Path(f"{path}{suffix}"), Path(f"{twin}{suffix}"))
        mode = "rw" if journal else "ro"
        db = sqlite3.connect(f"{twin.as_uri()}?mode={mode}", uri=True, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            yield db
        finally:
            db.close()


def forget_looks(directory: Path) -> None:
    """Remove what looks left behind that were killed on the way: their hard links would count as second
    names of the database for ever. Only for who holds the lock of the state directory."""
    for place in directory.glob(".look-*"):
        shutil.rmtree(place, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def examine(path: Path, newest: int, *, whole: bool | None = None) -> int | None:
    """The schema number of the database at `path`, or None when there is nothing there yet. `whole`: check
    all of it (by default when it is at most CHECK_BYTES large). Raises StartRefused (78) when it is of a
    newer leptond than one that knows schema `newest`, Damaged when it is no sound database of ours, and
    otherwise as :func:`open_refused`; it is not changed."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    if size == 0:
        return None
    try:
        with looked_at(path) as db:
            number: int = db.execute("PRAGMA user_version").fetchone()[0]
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if number > newest:
                raise StartRefused(
                    f"{path} has schema {number}, this leptond knows {newest}: it was written by a newer "
                    "leptond. Install that version again; the file was not changed.",
                    78,
                )
            if tables and OURS - tables:
                raise Damaged(path, "it is the database of another program")
            if whole or (whole is None and size <= CHECK_BYTES):
                check(path, db)
            return number if tables else None
    except (sqlite3.DatabaseError, OSError) as error:
        raise open_refused(path, error) from None


def check(path: Path, db: sqlite3.Connection) -> None:
    """Read all of `db`. Raises Damaged, sqlite3.DatabaseError."""
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise Damaged(path, f"it is damaged ({str(found).splitlines()[-1]})")
