"""All of leptond's SQL. :class:`Store` is the door: functions of the modules here are handed to
``write`` (durable when it returns), ``write_merged`` (the same, together with others of its kind), ``read``
(one snapshot, never waiting for a write) or ``browse`` (the same, for what may take long). Views use ``look``
and ``survey`` instead of these two: the same, and a row that is not as it should be is read as well as it can
be."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from leptond.base.errors import StartRefused
from leptond.base.histogram import DurationHistogram
from leptond.base.paths import data_dir
from leptond.store.database import backup
from leptond.store.database.connection import ODD_ROW, SQLITE_VERSION, Connection, Reader, Writer
from leptond.store.database.examine import examine
from leptond.store.database.migrate import migrate
from leptond.store.database.migrate import newest as newest_schema
from leptond.store.database.sqlite_errors import (
    StorageFault,
    StoreConflict,
    StoreError,
    StoreFull,
    StoreUnavailable,
    fatal,
    open_refused,
    storage_fault,
    store_errors,
)

__all__ = [
    "DATABASE",
    "ODD_ROW",
    "SQLITE_VERSION",
    "Connection",
    "Store",
    "StoreConflict",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "open_store",
]

DATABASE = "leptond.db"


class Store:
    """The open database. Listeners are called, in the event loop, after every commit, or (`on_change`) after
    every one that the queue may have to be looked at for. `broken` is done,
    with the reason, when the storage has failed in a way after which the daemon has to end: nothing else
    may be trusted to be on disk. `lineage` names the database through all its backups."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listeners: list[Callable[[], None]] = []
        self._change_listeners: list[Callable[[], None]] = []
        self._when_full: list[Callable[[], None]] = []
        self._writer = Writer(path, self._committed, self._failed)
        self._reader = Reader(path, self._failed)
        self.write = self._writer.write
        self.write_merged = self._writer.write_merged
        self.write_urgent = self._writer.write_urgent
        self.read = self._reader.read
        self.look = self._reader.look
        # a second one for what may take long, so that the scheduler never waits for a long list
        self._browser = Reader(path, self._failed)
        self.browse = self._browser.read
        self.survey = self._browser.look
        self.browse_odd = self._browser.read_odd
        self.broken: asyncio.Future[StartRefused] = asyncio.get_running_loop().create_future()
        self.lineage = ""

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every commit from now on."""
        self._listeners.append(listener)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every commit from now on that wakes the scheduler."""
        self._change_listeners.append(listener)

    def on_full(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a write found no room."""
        self._when_full.append(listener)

    def _committed(self, wakes_scheduler: bool) -> None:
        for listener in self._listeners:
            listener()
        for listener in self._change_listeners if wakes_scheduler else ():
            listener()

    def _failed(self, error: sqlite3.Error) -> None:
        why = fatal(self.path, error)
        if why is not None and not self.broken.done():
            self.broken.set_result(why)
        if storage_fault(error, self.path.parent) is StorageFault.FULL:
            for listener in self._when_full:
                listener()

    @property
    def commits(self) -> int:
        """Transactions so far."""
        return self._writer.commits

    @property
    def version(self) -> int | None:
        """The number of changes so far that wake the scheduler: while it is the same, the queue is as it
        was for the scheduler. None while such a change waits or is under way."""
        return self._writer.version

    @property
    def unmerged(self) -> int:
        """The number of changes so far other than merged ones (:meth:`write_merged`)."""
        return self._writer.unmerged

    @property
    def next_version(self) -> int:
        """For a change, while it is carried out: the `version` once its transaction is committed, if no other
        change of the transaction that wakes the scheduler follows it."""
        return self._writer.next_version

    @property
    def commit_times(self) -> DurationHistogram:
        """The durations of the commits."""
        return self._writer.times

    async def open(self) -> None:
        """Look at the file without changing it, open it, migrate it (a backup is made before). Raises
        StartRefused."""
        migrations = data_dir("migrations")
        newest = newest_schema(migrations)
        have = await asyncio.to_thread(examine, self.path, newest)
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            if have is not None and have < newest:
                await asyncio.to_thread(self._keep_before, have)
            await self._writer.open()
            # what the log holds goes into the database and to the disk, and the log begins anew: had a sync
            # failed under the last daemon, later commits would stand on frames that are only in memory
            await self._writer.exclusive(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
            await self._writer.exclusive(lambda db: migrate(db, migrations))
            self.lineage = await self._writer.exclusive(lineage_of)
            await self._reader.open()
            await self._browser.open()
        except sqlite3.DatabaseError as error:
            raise open_refused(self.path, error) from error
        except OSError as error:
            raise open_refused(self.path, error) from None

    def _keep_before(self, have: int) -> None:
        """A backup before the schema changes: the way back to the version that wrote it."""
        with contextlib.suppress(OSError, StoreUnavailable):  # no room for it is no reason to refuse
            backup.keep(self.path.parent, self.path, now=time.time(), mark=f"before-schema-{have + 1}")

    async def close(self) -> None:
        """Finish the writes that wait, then close. Raises StoreError."""
        with store_errors():
            await self._reader.close()
            await self._browser.close()
            await self._writer.close()

    async def ping(self) -> None:
        """Read from the database. Raises StoreError when it does not answer."""
        await self.read(lambda db: db.execute("SELECT 1").fetchone())


def lineage_of(db: Connection) -> str:
    """The random name that a database gets when it is made and keeps in every copy (`db` in autocommit
    mode)."""
    db.execute("INSERT OR IGNORE INTO meta (key, value) VALUES ('lineage', ?)", (secrets.token_hex(8),))
    name: str = db.execute("SELECT value FROM meta WHERE key = 'lineage'").fetchone()[0]
    return name


@contextlib.asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[Store]:
    """A store for the length of a block."""
    store = Store(path)
    try:
        await store.open()
        yield store
    finally:
        await store.close()
