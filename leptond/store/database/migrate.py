"""The schema's history: numbered SQL files, each applied whole or not at all."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from leptond.base.errors import EXIT_LATER, StartRefused

_FILE = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")


def available(directory: Path) -> list[tuple[int, Path]]:
    """Number and file of every migration, in order. Raises StartRefused on a gap or a stray name."""
    found = []
    for file in sorted(directory.glob("*.sql")):
        match = _FILE.match(file.name)
        if match is None:
            raise StartRefused(f"{file} is not named NNNN_name.sql", 78)
        found.append((int(match[1]), file))
    if [number for number, _ in found] != list(range(1, len(found) + 1)):
        raise StartRefused(
            f"the migrations in {directory} are not numbered 1 to {len(found)} without gaps: "
            "the installation is incomplete. Install leptond again.",
            EXIT_LATER,
        )
    return found


def newest(directory: Path) -> int:
    """The number of the newest schema. Raises StartRefused."""
    return len(available(directory))


def version(db: sqlite3.Connection) -> int:
    """The number of the last migration that `db` has seen."""
    number: int = db.execute("PRAGMA user_version").fetchone()[0]
    return number


def migrate(db: sqlite3.Connection, directory: Path) -> list[str]:
    """Bring `db` (in autocommit mode) to the newest schema; the names of the files applied.

    Each file runs in one transaction together with the change of ``user_version``, so a crash leaves the
    old schema or the new one. Raises StartRefused when `db` is newer than this program: it is not touched.
    """
    files = available(directory)
    have = version(db)
    newest = files[-1][0] if files else 0
    if have > newest:
        raise StartRefused(
            f"the database has schema {have}, this leptond knows {newest}: "
            "it was written by a newer leptond. Install that version again; the file was not changed.",
            78,
        )
    applied = []
    for number, file in files:
        if number <= have:
            continue
        try:
            db.executescript(
                f"BEGIN IMMEDIATE;\n{file.read_text()}\n;PRAGMA user_version = {number};\nCOMMIT;"
            )
        except sqlite3.Error:
            if db.in_transaction:
                db.rollback()
            raise
        applied.append(file.name)
    return applied
