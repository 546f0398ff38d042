"""New stores without the cost of all migrations: the empty database is made once in a process and copied."""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

from leptond.base.paths import data_dir
from leptond.store import DATABASE, Store, open_store
from leptond.store.database.connection import prepare_writer
from leptond.store.database.migrate import migrate


@functools.cache
def empty_database() -> bytes:
    """The file of a database of the newest schema without rows."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        prepare_writer(db)
        migrate(db, data_dir("migrations"))
        return db.serialize()


def put_empty_database(path: Path) -> None:
    """Write a database of the newest schema without rows, where there is none. Its lineage is made when it is
    opened."""
    with contextlib.suppress(FileExistsError):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as out:
            out.write(empty_database())


def put_state(state_dir: Path) -> Path:
    """Make a daemon's state directory with an empty database in it."""
    state_dir.mkdir(mode=0o700, parents=True)
    put_empty_database(state_dir / DATABASE)
    return state_dir


@contextlib.asynccontextmanager
async def open_new_store(path: Path) -> AsyncIterator[Store]:
    """A store for the length of a block, empty unless there is a database at `path`."""
    put_empty_database(path)
    async with open_store(path) as store:
        yield store
