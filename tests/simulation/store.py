"""The daemon's store on virtual time: the same SQL and the same shared transactions, run on a plain
connection. What has not been committed when the daemon dies has never been."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
from collections.abc import Callable
from functools import cache
from typing import Any

from leptond.base.paths import data_dir
from leptond.store import StoreFull, StoreUnavailable, WhenGiven, write_when_taken_back
from leptond.store.database.connection import MAX_GROUP, _outside, prepare_writer
from leptond.store.database.migrate import migrate
from leptond.store.database.sqlite_errors import store_errors
from leptond.store.database.transaction import transaction


@cache
def _template() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db, data_dir("migrations"))
    return db


def database() -> sqlite3.Connection:
    """An empty queue in memory, with the writer's pragmas."""
    db = sqlite3.connect(":memory:", isolation_level=None, cached_statements=512)
    _template().backup(db)
    prepare_writer(db)
    return db


_Change = tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any], bool, bool]
"""What to do, who waits for it, whether it wakes the scheduler, and whether plans reckon with it."""


class Faults:
    """What the disk does: seconds that a commit takes at most, how often one fails, how often a read does."""

    def __init__(self) -> None:
        self.commit_s = 0.004
        self.fail = 0.0
        self.read_s = 0.0


class SimulatedStore:
    """One life of leptond.store.Store. `committed` is called when a transaction is durable, before
    anybody is answered; `has_read` with every query, when it is carried out."""

    def __init__(
        self,
        db: sqlite3.Connection,
        faults: Faults,
        dice: random.Random,
        committed: Callable[[], None],
        has_read: Callable[[Callable[..., Any]], None],
    ) -> None:
        self._db = db
        self._faults = faults
        self._dice = dice
        self._committed = committed
        self._has_read = has_read
        self._listeners: list[Callable[[], None]] = []
        self._change_listeners: list[Callable[[], None]] = []
        self._waiting: list[_Change] = []
        self._urgent: list[_Change] = []
        self._busy = False
        self._changing = False
        self._version = 0
        self._version_once_durable = 0
        self.others = 0
        self._when_given: WhenGiven = contextlib.nullcontext
        self.dead = False
        self.commits = 0

    def on_commit(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def on_given(self, take_back: WhenGiven) -> None:
        self._when_given = take_back

    def on_change(self, listener: Callable[[], None]) -> None:
        self._change_listeners.append(listener)

    async def write(
        self, change: Callable[..., Any], *args: Any, wakes_scheduler: bool = True, **kwargs: Any
    ) -> Any:
        def work(db: sqlite3.Connection) -> Any:
            return change(db, *args, **kwargs)

        return await write_when_taken_back(self._put, self._when_given, work, wakes_scheduler)

    async def write_planned(self, change: Callable[[sqlite3.Connection], Any]) -> Any:
        return await write_when_taken_back(self._put, self._when_given, change, True, True)

    def write_urgent(self, change: Callable[[sqlite3.Connection], Any]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._urgent.append((change, future, True, True))
        if not self._busy:
            self._begin(loop)
        return future

    @property
    def version(self) -> int | None:
        changing = self._changing or self._urgent or any(one[2] for one in self._waiting)
        return None if changing else self._version

    async def _put(
        self, work: Callable[[sqlite3.Connection], Any], wakes_scheduler: bool, is_planned: bool = False
    ) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((work, future, wakes_scheduler, is_planned))
        if not self._busy:
            self._begin(loop)
        return await future

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._busy = True
        loop.call_later(self._dice.random() * self._faults.commit_s, self._commit, loop)

    def _commit(self, loop: asyncio.AbstractEventLoop) -> None:
        group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
        group = [*self._urgent, *(one for one in group if not one[1].cancelled())]
        if self.dead or not group:
            self._busy = False
            return
        version = self._version + sum(one[2] for one in group)
        self._changing = version != self._version
        self._version_once_durable = version
        if self._faults.fail and self._dice.random() < self._faults.fail:
            error = StoreFull("database or disk is full")
            loop.call_soon(self._answer, loop, group, [(None, error)] * len(group), False)
            return
        outcomes = transaction(self._db, [one[0] for one in group])
        self.commits += 1
        self._committed()
        # a crash may come here: durable, and nobody has been told
        loop.call_soon(self._answer, loop, group, outcomes, True)

    def _answer(
        self,
        loop: asyncio.AbstractEventLoop,
        group: list[_Change],
        outcomes: list[tuple[Any, Exception | None]],
        durable: bool,
    ) -> None:
        for one, (value, failure) in zip(group, outcomes, strict=True):
            future = one[1]
            if future.done() or (not durable and one in self._urgent):
                continue
            if failure is None:
                future.set_result(value)
            else:
                future.set_exception(_outside(failure))
        self._version = self._version_once_durable
        self.others += sum(one[2] and not one[3] for one in group)
        self._changing = False
        if durable:
            self._urgent = [one for one in self._urgent if one not in group]
            for listener in self._listeners:
                listener()
            for listener in self._change_listeners if any(one[2] for one in group) else ():
                listener()
        self._busy = False
        if self._waiting or self._urgent:
            self._begin(loop)

    async def read(self, query: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._faults.read_s:
            await asyncio.sleep(self._dice.random() * self._faults.read_s)
        else:
            await asyncio.sleep(0)
        if self.dead:
            raise RuntimeError("the daemon is dead")
        if self._faults.fail and self._dice.random() < self._faults.fail / 4:
            raise StoreUnavailable("disk I/O error")
        self._has_read(query)
        with store_errors():
            value = query(self._db, *args, **kwargs)
        # the world may move on between the snapshot and its use
        await asyncio.sleep(self._dice.random() * self._faults.read_s if self._faults.read_s else 0)
        return value
