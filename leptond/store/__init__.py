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
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, TypeVarTuple, overload

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
    SuccessorGiven,
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
    "WhenGiven",
    "open_store",
    "write_when_taken_back",
]

DATABASE = "leptond.db"

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TRIES = 3
"""How often a change is tried again."""

WhenGiven = Callable[[], contextlib.AbstractAsyncContextManager[None]]
"""Sees to it that nothing starts without the daemon, and that what has started so is durable."""


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
        self.write_merged = self._writer.write_merged
        self._when_given: WhenGiven = contextlib.nullcontext
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

    def on_given(self, take_back: WhenGiven) -> None:
        """Enter `take_back` before a change is tried again that concerns a job which may start without the
        daemon."""
        self._when_given = take_back

    @overload
    async def write(
        self, change: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    @overload
    async def write(self, change: Callable[[Connection, *Ts], T], *args: *Ts, wakes_scheduler: bool) -> T: ...

    async def write(self, change: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
        """Return the value of `change(db, ...)` once it is durable (:meth:`Writer.write`). A change of a job
        that may start without the daemon waits until that is decided."""
        return await write_when_taken_back(self._writer.write, self._when_given, change, *args, **kwargs)

    async def write_planned(self, change: Callable[[Connection], T]) -> T:
        """As :meth:`write`, for what every plan reckons with (:meth:`Writer.write_planned`)."""
        written: T = await write_when_taken_back(self._writer.write_planned, self._when_given, change)
        return written

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
    def others(self) -> int:
        """As `version`, without planned and urgent changes, and also while a change is under way."""
        return self._writer.others

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


async def write_when_taken_back(
    write: Callable[..., Awaitable[Any]],
    take_back: WhenGiven,
    change: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Return what `write(change, ...)` returns; where it concerns a job that may start without the daemon,
    try it again within `take_back`."""
    for _ in range(TRIES):
        try:
            return await write(change, *args, **kwargs)
        except SuccessorGiven:
            async with take_back():
                with contextlib.suppress(SuccessorGiven):
                    return await write(change, *args, **kwargs)
    return await write(change, *args, **kwargs)


@contextlib.asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[Store]:
    """A store for the length of a block."""
    store = Store(path)
    try:
        await store.open()
        yield store
    finally:
        await store.close()
