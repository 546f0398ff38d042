"""SQLite under asyncio: one connection that writes, one that reads, and commits that are shared.

Callers hand over plain functions of a connection. Those that arrive while a commit is under
way wait together and go into the next transaction, each in its own savepoint: one of them failing undoes
itself alone, and no caller is answered before the commit that holds their change is on disk. So a hundred
concurrent submits cost about one sync, not a hundred.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, TypeVarTuple, overload

import aiosqlite

from leptond.base.histogram import FAST_S, DurationHistogram
from leptond.store.database.sqlite_errors import store_error
from leptond.store.database.transaction import Merge, Step, alone, merged, run

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")

Connection = sqlite3.Connection
"""The connection that a change or a query is given: only functions of the store call it."""

SQLITE_VERSION = sqlite3.sqlite_version

MAX_GROUP = 512
"""Most changes in one transaction: keeps the wait of the first of them short."""


RETRY_S = 1.0
"""Seconds until a write of what has happened already is tried again after the disk refused it."""


class _AsyncConnection(aiosqlite.Connection):
    """An aiosqlite connection that can run a whole function on its thread.

    One call across threads costs 0.2-0.4 ms however small the statement, so a transaction is handed over
    as one function rather than statement by statement.
    """

    async def run(self, work: Callable[[Connection], T]) -> T:
        """`work(connection)` on the connection's own thread."""
        result: T = await self._execute(work, self._conn)  # type: ignore[no-untyped-call]  # aiosqlite's own
        return result


def _connect(database: str, **options: Any) -> _AsyncConnection:
    return _AsyncConnection(lambda: sqlite3.connect(database, **options), iter_chunk_size=64)


def prepare_writer(db: Connection) -> None:
    """The pragmas of the connection that writes (they are per connection)."""
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA busy_timeout = 5000")
    db.execute("PRAGMA cache_size = -16384")
    db.execute("PRAGMA journal_size_limit = 67108864")
    db.execute("PRAGMA temp_store = MEMORY")


def prepare_reader(db: Connection) -> None:
    """The pragmas of the connection that only reads."""
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA query_only = ON")
    db.execute("PRAGMA busy_timeout = 5000")
    db.execute("PRAGMA cache_size = -8192")


class _Merged(NamedTuple):
    """A change that is carried out with others of its kind: `merge` takes the items of all of them."""

    merge: Merge
    item: Any


class _Change(NamedTuple):
    work: Callable[[Connection], Any] | _Merged
    future: asyncio.Future[Any]
    wakes_scheduler: bool
    is_planned: bool = False


def _merge_of(change: _Change) -> Merge | None:
    return change.work.merge if isinstance(change.work, _Merged) else None


class Writer:
    """The only connection that writes and checkpoints (SQLite before 3.51.3 can lose commits when a
    second one does). :meth:`run` is its life; :meth:`write` may be called from any task."""

    def __init__(
        self, path: Path, on_commit: Callable[[bool], None], on_error: Callable[[sqlite3.Error], None]
    ) -> None:
        self._db = _connect(str(path), isolation_level=None, cached_statements=512)
        self._on_commit = on_commit
        self._on_error = on_error
        self._waiting: list[_Change] = []
        self._urgent: list[_Change] = []
        self._busy = False
        self._work = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.commits = 0
        self.changes = 0
        self._version = 0
        self.unmerged = 0
        """Number of changes tried so far that were not merged."""
        self.others = 0
        self.times = DurationHistogram(FAST_S)

    async def open(self) -> None:
        await self._db
        await self._db.run(prepare_writer)
        self._task = asyncio.create_task(self._run(), name="store-writer")

    async def close(self) -> None:
        """Carry out what waits, then close."""
        self._closing = True
        self._work.set()
        if self._task is not None:
            await self._task
        await self._db.close()

    async def exclusive(self, work: Callable[[Connection], T]) -> T:
        """`work` outside of any transaction; only for the start, before :meth:`write` is used."""
        return await self._db.run(work)

    @overload
    async def write(
        self, change: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    @overload
    async def write(self, change: Callable[[Connection, *Ts], T], *args: *Ts, wakes_scheduler: bool) -> T: ...

    async def write(  # type: ignore[misc]  # mypy matches Any with neither the ParamSpec nor the TypeVarTuple
        self, change: Callable[..., Any], *args: Any, wakes_scheduler: bool = True, **kwargs: Any
    ) -> Any:
        """Return the value of `change(db, ...)` once it is durable. If the change raises, its exception is
        raised here and nothing of it is stored. Raises StoreError when the commit itself fails.

        `wakes_scheduler` False: no job can start because of this change, so it neither wakes the scheduler
        nor counts in `version`; the change then takes positional arguments only."""
        return await self._put(lambda db: change(db, *args, **kwargs), wakes_scheduler=wakes_scheduler)

    async def write_merged(
        self,
        merge: Callable[[Connection, Sequence[T]], list[tuple[R | None, Exception | None]]],
        item: T,
        *,
        wakes_scheduler: bool = True,
    ) -> R:
        """Write something that many callers write at a time: `merge(db, items)` carries out what waits for
        the same commit, and returns for each item its value, or the error that is raised here. What `merge`
        raises itself undoes all of them, and each is tried alone. Raises StoreError."""
        result: R = await self._put(_Merged(merge, item), wakes_scheduler=wakes_scheduler)
        return result

    async def write_planned(self, change: Callable[[Connection], T]) -> T:
        """As :meth:`write`, for what every plan reckons with: the end of an attempt, and the start that
        follows from it. It does not count in `others`."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._put_in(_Change(change, future, True, True))
        return await future

    def write_urgent(self, change: Callable[[Connection], T]) -> asyncio.Future[T]:
        """Write something that has happened already: before all other changes and in the order of the calls,
        retried until the disk takes it; no other change becomes durable before it does."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._urgent.append(_Change(change, future, True, True))
        self._work.set()
        return future

    @property
    def version(self) -> int | None:
        """Number of changes tried so far that wake the scheduler; None while one waits or is under way."""
        changing = self._busy or self._urgent or any(one.wakes_scheduler for one in self._waiting)
        return None if changing else self._version

    async def _put(self, work: Callable[[Connection], Any] | _Merged, *, wakes_scheduler: bool) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._put_in(_Change(work, future, wakes_scheduler))
        return await future

    def _put_in(self, change: _Change) -> None:
        if self._closing:
            raise RuntimeError("the store is closed")
        self._waiting.append(change)
        self._work.set()

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting or self._urgent:
                group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
                # a caller that gave up before its change began has not been answered: drop it
                group = [one for one in group if not one.future.cancelled()]
                urgent = list(self._urgent)
                if urgent or group:
                    await self._commit([*urgent, *group])
                if any(one in self._urgent for one in urgent):
                    if self._closing:
                        return  # what it says is found again at the next start
                    await asyncio.sleep(RETRY_S)
            if self._closing:
                return

    def _steps(self, group: Sequence[_Change]) -> list[Step]:
        """Return what the transaction of a group consists of."""
        steps: list[Step] = []
        for merge, some in groupby(group, _merge_of):
            changes = list(some)
            if merge is not None:
                items = [one.work.item for one in changes if isinstance(one.work, _Merged)]
                steps.append(partial(merged, merge=merge, items=items))
                continue
            for one in changes:
                assert not isinstance(one.work, _Merged)
                steps.append(alone(one.work))
        return steps

    async def _commit(self, group: list[_Change]) -> None:
        wakes_scheduler = any(one.wakes_scheduler for one in group)
        steps = self._steps(group)
        self._busy = wakes_scheduler
        began = time.perf_counter()
        try:
            outcomes = await self._db.run(lambda db: run(db, steps))
        except Exception as error:
            again = self._urgent if isinstance(error, sqlite3.Error) else ()
            for one in group:
                if not one.future.done() and one not in again:
                    one.future.set_exception(_outside(error))
            self._urgent = [one for one in self._urgent if not one.future.done()]
            if isinstance(error, sqlite3.Error):
                self._on_error(error)
            return
        finally:
            self._busy = False
            self.unmerged += sum(not isinstance(one.work, _Merged) for one in group)
            self._version += sum(one.wakes_scheduler for one in group)
            self.others += sum(one.wakes_scheduler and not one.is_planned for one in group)
        self._urgent = [one for one in self._urgent if one not in group]
        self.times.observe(time.perf_counter() - began)
        self.commits += 1
        self.changes += len(group)
        for one, (value, failure) in zip(group, outcomes, strict=True):
            if one.future.done():
                continue
            if failure is None:
                one.future.set_result(value)
            else:
                one.future.set_exception(_outside(failure))
        self._on_commit(wakes_scheduler)


def _outside(error: Exception) -> Exception:
    """`error` as a caller of the store gets it."""
    return store_error(error) if isinstance(error, sqlite3.Error) else error


ODD_ROW = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, sqlite3.OperationalError)
"""What a query raises about a row that is not as it should be."""

LARGEST = 1e15
"""Numbers beyond it in a column of REAL are odd: it is more than any time, size or sum of GPU time."""


def _as_integer(data: bytes) -> int:
    try:
        return int(_as_real(data))
    except ValueError:
        return 0


def _as_real(data: bytes) -> float:
    try:
        return min(max(float(data), -LARGEST), LARGEST)
    except ValueError:
        return 0.0


def _as_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _whole_rows(db: Connection) -> Callable[[sqlite3.Cursor, tuple[Any, ...]], sqlite3.Row]:
    """A row factory that puts an empty value where a column that is never NULL has none: to sqlite3 an empty
    text is nothing to convert."""
    empty: dict[str, Any] = {}
    nullable: set[str] = set()
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for column in db.execute(f"PRAGMA table_info({table})").fetchall():
            if column["notnull"] or column["pk"]:
                empty[column["name"]] = _EMPTY.get(column["type"])
            else:
                nullable.add(column["name"])

    def row(cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> sqlite3.Row:
        names = (name for name, *_ in cursor.description)
        whole = (
            empty.get(name) if value is None and name not in nullable else value
            for name, value in zip(names, values, strict=True)
        )
        return sqlite3.Row(cursor, tuple(whole))

    return row


_EMPTY = {"INTEGER": 0, "REAL": 0.0, "TEXT": ""}

# for connections with detect_types alone
for _type, _convert in (("INTEGER", _as_integer), ("REAL", _as_real), ("TEXT", _as_text)):
    sqlite3.register_converter(_type, _convert)


def _snapshot(db: Connection, work: Callable[[], T]) -> T:
    db.execute("BEGIN")
    try:
        return work()
    finally:
        db.execute("COMMIT")


class Reader:
    """A read-only connection: reads never wait for writes. Each call sees one snapshot."""

    def __init__(self, path: Path, on_error: Callable[[sqlite3.Error], None]) -> None:
        self._uri = f"{path.as_uri()}?mode=ro"
        self._db = _connect(self._uri, uri=True, isolation_level=None, cached_statements=512)
        self._on_error = on_error

    async def open(self) -> None:
        await self._db
        await self._db.run(prepare_reader)

    async def close(self) -> None:
        await self._db.close()

    async def read(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return the value of `query(db, ...)`, all of it from the same snapshot. Raises StoreError."""
        return await self._run(lambda db: _snapshot(db, lambda: query(db, *args, **kwargs)))

    async def look(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As :meth:`read`, for views: a row that is not as it should be is read as well as it can be. Nothing
        may be decided by what is read so."""

        def tolerant(db: Connection) -> T:
            try:
                return _snapshot(db, lambda: query(db, *args, **kwargs))
            except ODD_ROW as error:
                if isinstance(error, sqlite3.OperationalError) and "decode to UTF-8" not in str(error):
                    raise
                # a row that leptond has not written so; a fault of ours shows in the second look too
                return self._odd(query, *args, **kwargs)

        return await self._run(tolerant)

    async def read_odd(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As :meth:`look`, with every column as the type that it was declared as, whatever stands there: for
        what fails with ODD_ROW only after it was read."""
        return await self._run(lambda db: self._odd(query, *args, **kwargs))

    def _odd(self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        db = sqlite3.connect(self._uri, uri=True, isolation_level=None, detect_types=sqlite3.PARSE_DECLTYPES)
        with contextlib.closing(db):
            prepare_reader(db)
            db.row_factory = _whole_rows(db)
            db.text_factory = _as_text  # of columns that a query computes
            db.execute("BEGIN")
            return query(db, *args, **kwargs)

    async def _run(self, snapshot: Callable[[Connection], T]) -> T:
        try:
            return await self._db.run(snapshot)
        except sqlite3.Error as error:
            self._on_error(error)
            raise store_error(error) from error
