"""Waits of many clients for the ends of jobs and for new events, at the cost of one: after a commit one look
at the database serves them all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import takewhile

from leptond.store import Connection, Store
from leptond.store.database import events
from leptond.store.queue import arrays, jobs

KEPT_EVENTS = 2000
"""Newest events that are kept in memory for the streams."""

READ_EVENTS = 1000
"""Most events that are read in one look."""

Waited = tuple[str, int]


class Ends:
    """Waits for the ends of jobs (``("job", id)``) and of arrays (``("array", id)``)."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[Waited, set[asyncio.Future[None]]] = {}
        self._look: asyncio.Task[None] | None = None
        self._changed = False
        store.on_commit(self._commit)

    def next(self, what: Waited) -> asyncio.Future[None]:
        """Return a future that is done when `what` has ended or is gone. Take it before reading, await it
        after."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(what, set()).add(future)
        future.add_done_callback(lambda done: self._forget(what, done))
        return future

    def wake(self) -> None:
        """End all waits."""
        for futures in list(self._waiting.values()):
            for future in list(futures):
                if not future.done():
                    future.set_result(None)

    def _forget(self, what: Waited, future: asyncio.Future[None]) -> None:
        futures = self._waiting.get(what, set())
        futures.discard(future)
        if not futures:
            self._waiting.pop(what, None)

    def _commit(self) -> None:
        self._changed = True
        if self._waiting and self._look is None:
            self._look = asyncio.get_running_loop().create_task(self._all(), name="waits-look")

    async def _all(self) -> None:
        try:
            while self._changed and self._waiting:
                self._changed = False
                wanted = list(self._waiting)
                for what in await self._store.look(_ended, wanted):
                    for future in list(self._waiting.get(what, ())):
                        if not future.done():
                            future.set_result(None)
        finally:
            self._look = None


def _ended(db: Connection, wanted: Sequence[Waited]) -> list[Waited]:
    """Return those of these jobs and arrays that have ended, or that are gone."""
    numbers = [number for kind, number in wanted if kind == "job"]
    ended = jobs.ended_or_gone(db, numbers)
    found: list[Waited] = [("job", number) for number in ended]
    found += [one for one in wanted if one[0] == "array" and arrays.is_over(db, one[1])]
    return found


class EventTail:
    """The newest events in memory, read once after each commit for all streams."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._events: deque[events.Event] = deque(maxlen=KEPT_EVENTS)
        self._last: int | None = None
        self._seen = -1
        self._read: asyncio.Task[None] | None = None

    async def after(
        self, last_id: int, *, limit: int, job: int | None, kinds: Sequence[str]
    ) -> list[events.Event]:
        """Return events with an id above `last_id`, the oldest first."""
        while self._seen != self._store.commits:
            if self._read is None:
                self._read = asyncio.get_running_loop().create_task(self._refresh(), name="event-tail")
            await asyncio.shield(self._read)
        held = self._events
        if self._last is None or (last_id < self._last and (not held or held[0].id > last_id + 1)):
            return await self._store.survey(events.after, last_id, limit=limit, job=job, kinds=kinds)
        newer = [*takewhile(lambda one: one.id > last_id, reversed(held))]
        return [
            one
            for one in reversed(newer)
            if (job is None or one.job_id == job) and (not kinds or one.type in kinds)
        ][:limit]

    async def _refresh(self) -> None:
        try:
            commits = self._store.commits
            if self._last is None:
                self._last = await self._store.survey(events.last_id)
            while True:
                found = await self._store.survey(events.after, self._last, limit=READ_EVENTS)
                self._events.extend(found)
                if found:
                    self._last = found[-1].id
                if len(found) < READ_EVENTS:
                    break
            self._seen = commits
        finally:
            self._read = None
