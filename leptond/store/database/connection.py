"""SQLite under asyncio: one connection that writes, one that reads, and commits that are shared.

Callers hand over plain functions of a ``sqlite3.Connection``. Those that arrive while a commit is under
way wait together and go into the next transaction, each in its own savepoint: one of them failing undoes
itself alone, and nobody is answered before the commit that holds their change is on disk. So a hundred
concurrent submits cost about one sync, not a hundred.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import aiosqlite

from leptond.base import failpoints
from leptond.base.histogram import FAST_S, DurationHistogram

P = ParamSpec("P")
T = TypeVar("T")

MAX_GROUP = 512
"""Most changes in one transaction: keeps the wait of the first of them short."""


RETRY_S = 1.0
"""How long until what has happened already is written again after the disk did not take it."""


class Connection(aiosqlite.Connection):
    """An aiosqlite connection that can run a whole function on its thread.

    One call across threads costs 0.2-0.4 ms however small the statement, so a transaction is handed over
    as one function rather than statement by statement.
    """

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work(connection)` on the connection's own thread."""
        result: T = await self._execute(work, self._conn)  # type: ignore[no-untyped-call]  # aiosqlite's own
        return result


def _connect(database: str, **options: Any) -> Connection:
    return Connection(lambda: sqlite3.connect(database, **options), iter_chunk_size=64)


def prepare_writer(db: sqlite3.Connection) -> None:
    """The pragmas of the connection that writes (they are per connection)."""
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA busy_timeout = 5000")
    db.execute("PRAGMA cache_size = -16384")
    db.execute("PRAGMA journal_size_limit = 67108864")
    db.execute("PRAGMA temp_store = MEMORY")


def prepare_reader(db: sqlite3.Connection) -> None:
    """The pragmas of the connection that only reads."""
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA query_only = ON")
    db.execute("PRAGMA busy_timeout = 5000")
    db.execute("PRAGMA cache_size = -8192")


class _Change(NamedTuple):
    work: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    plain: bool


class Writer:
    """The only connection that writes and checkpoints (SQLite before 3.51.3 can lose commits when a
    second one does). :meth:`run` is its life; :meth:`write` may be called from any task."""

    def __init__(
        self, path: Path, on_commit: Callable[[bool], None], on_trouble: Callable[[sqlite3.Error], None]
    ) -> None:
        self._db = _connect(str(path), isolation_level=None, cached_statements=512)
        self._on_commit = on_commit
        self._on_trouble = on_trouble
        self._waiting: list[_Change] = []
        self._first: list[_Change] = []
        self._busy = False
        self._work = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.commits = 0
        self.changes = 0
        self.version = 0
        self.number = 0
        self.times = DurationHistogram(FAST_S)

    async def open(self) -> None:
        await self._db
        await self._db.run(prepare_writer)
        self._task = asyncio.create_task(self._run(), name="store-writer")

    async def close(self) -> None:
        """Carries out what waits, then closes."""
        self._closing = True
        self._work.set()
        if self._task is not None:
            await self._task
        await self._db.close()

    async def exclusive(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` outside of any transaction; only for the start, before :meth:`write` is used."""
        return await self._db.run(work)

    async def write(
        self, change: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `change(db, ...)` returns, once it is durable. Its exception, if it raises: then nothing
        of it stays. Raises ``sqlite3.Error`` when the commit itself fails."""
        return await self._put(lambda db: change(db, *args, **kwargs), plain=False)

    async def jot(
        self, change: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """A :meth:`write` that no job can start by: nobody looks at the queue because of it."""
        return await self._put(lambda db: change(db, *args, **kwargs), plain=True)

    async def write_first(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """A :meth:`write` of something that has happened already: it goes before all others, is tried until
        the disk takes it, and no other change becomes durable before it does."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._first.append(_Change(change, future, False))
        self._work.set()
        return await future

    @property
    def settled(self) -> bool:
        """Whether no change is under way or waits that the queue may have to be looked at for. Then `version`
        tells, compared with that of an earlier moment, whether there has been one."""
        return not self._busy and not self._first and all(one.plain for one in self._waiting)

    async def _put(self, work: Callable[[sqlite3.Connection], T], *, plain: bool) -> T:
        if self._closing:
            raise RuntimeError("the store is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Change(work, future, plain))
        self._work.set()
        return await future

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting or self._first:
                group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
                # a caller that gave up before its change began has not been answered: drop it
                group = [one for one in group if not one.future.cancelled()]
                first = len(self._first)
                if self._first or group:
                    await self._commit([*self._first, *group])
                if len(self._first) >= first > 0:
                    if self._closing:
                        return  # what it says is found again at the next start
                    await asyncio.sleep(RETRY_S)
            if self._closing:
                return

    def _step(self, work: Callable[[sqlite3.Connection], T], number: int, db: sqlite3.Connection) -> T:
        self.number = number
        return work(db)

    async def _commit(self, group: list[_Change]) -> None:
        plain = all(one.plain for one in group)
        changes, number = [], self.version
        for one in group:
            number += not one.plain
            changes.append(partial(self._step, one.work, number))
        self._busy = not plain
        began = time.perf_counter()
        try:
            outcomes = await self._db.run(lambda db: _transaction(db, changes))
        except Exception as error:
            again = self._first if isinstance(error, sqlite3.Error) else ()
            for one in group:
                if not one.future.done() and one not in again:
                    one.future.set_exception(error)
            self._first = [one for one in self._first if not one.future.done()]
            if isinstance(error, sqlite3.Error):
                self._on_trouble(error)
            return
        finally:
            self._busy = False
            self.version = number
        self._first = [one for one in self._first if one not in group]
        self.times.observe(time.perf_counter() - began)
        self.commits += 1
        self.changes += len(group)
        for one, (value, failure) in zip(group, outcomes, strict=True):
            if one.future.done():
                continue
            if failure is None:
                one.future.set_result(value)
            else:
                one.future.set_exception(failure)
        self._on_commit(plain)


def _transaction(
    db: sqlite3.Connection, changes: Sequence[Callable[[sqlite3.Connection], Any]]
) -> list[tuple[Any, Exception | None]]:
    """All `changes` in one transaction, each in its own savepoint; commits or raises."""
    outcomes: list[tuple[Any, Exception | None]] = []
    db.execute("BEGIN IMMEDIATE")
    try:
        for change in changes:
            db.execute("SAVEPOINT change")
            try:
                outcomes.append((change(db), None))
            except Exception as error:
                if not db.in_transaction:
                    raise  # a full disk, an I/O error: SQLite has undone the whole transaction itself
                db.execute("ROLLBACK TO change")
                outcomes.append((None, error))
            db.execute("RELEASE change")
        failpoints.fp("before_commit")
        db.execute("COMMIT")
        failpoints.fp("after_commit")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return outcomes


class Reader:
    """A read-only connection: reads never wait for writes. Each call sees one snapshot."""

    def __init__(self, path: Path, on_trouble: Callable[[sqlite3.Error], None]) -> None:
        self._db = _connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, cached_statements=512)
        self._on_trouble = on_trouble

    async def open(self) -> None:
        await self._db
        await self._db.run(prepare_reader)

    async def close(self) -> None:
        await self._db.close()

    async def read(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `query(db, ...)` returns, all of it from the same snapshot."""

        def snapshot(db: sqlite3.Connection) -> T:
            db.execute("BEGIN")
            try:
                return query(db, *args, **kwargs)
            finally:
                db.execute("COMMIT")

        try:
            return await self._db.run(snapshot)
        except sqlite3.Error as error:
            self._on_trouble(error)
            raise
