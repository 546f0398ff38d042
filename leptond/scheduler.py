"""The loop that turns plans into starts. It sleeps until something has changed: a commit, a GPU, or the
end of a back-off; it does not poll."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog

from leptond import failpoints
from leptond.clock import Clock
from leptond.config import Settings
from leptond.core.planner import Start
from leptond.store import Store, attempts, planning
from leptond.supervisor import Supervisor

log = structlog.get_logger("leptond.scheduler")

LONGEST_SLEEP_S = 3600.0
TIMER_SLEEP_S = 60.0
"""Longest sleep while a back-off or a begin time runs: their clocks go on in a suspend, that of a sleep
does not."""


class Scheduler:
    """Decides with the pure planner on a snapshot, then claims and starts. `sick` tells which devices do
    not answer."""

    def __init__(
        self,
        store: Store,
        supervisor: Supervisor,
        clock: Clock,
        settings: Settings,
        sick: Callable[[], Mapping[str, str]],
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._clock = clock
        self._policy = settings.policy()
        self._cpu_slots = settings.cpu_slots()
        self._sick = sick
        self._changed = asyncio.Event()
        store.on_commit(self.wake)

    def wake(self) -> None:
        """Something has changed: look again."""
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._changed.clear()
            try:
                sleep_s = await self.turn()
            except sqlite3.OperationalError as error:
                log.error("cannot schedule now", error=str(error))
                sleep_s = 1.0
            try:
                async with asyncio.timeout(sleep_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def turn(self) -> float:
        """One look at the queue: stops are delivered, then what can start is started. How long the next
        look can wait, in seconds, if nothing changes."""
        snapshot = await self._store.read(self._look)
        for attempt_id, reason, grace_s in snapshot.stops:
            attempt = await self._store.read(attempts.get, attempt_id)
            self._supervisor.stop(attempt_id, attempt, reason, grace_s)
        for start in snapshot.starts:
            failpoints.fp("before_claim")
            claim = await self._store.write(
                attempts.claim,
                start,
                attempt_id=secrets.token_hex(16),
                now=self._clock.wall(),
                boot=self._clock.boot(),
                boot_id=self._clock.boot_id,
            )
            failpoints.fp("after_claim")
            if claim is not None:
                self._supervisor.start(claim)
        return min(TIMER_SLEEP_S, snapshot.next_wake) if snapshot.next_wake is not None else LONGEST_SLEEP_S

    def _look(self, db: sqlite3.Connection) -> _Snapshot:
        now, boot = self._clock.wall(), self._clock.boot()
        return _Snapshot(
            starts=planning.decide(
                db, now=now, boot=boot, sick=self._sick(), cpu_slots=self._cpu_slots, policy=self._policy
            ),
            stops=planning.stops(db),
            next_wake=planning.next_wake(db, now=now, boot=boot),
        )


class _Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    starts: Sequence[Start]
    stops: Sequence[tuple[str, str, float]]
    next_wake: float | None
