"""The loop that turns plans into starts. It sleeps until something has changed: a commit, a GPU, or the
end of a back-off; it does not poll."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog

from leptond import failpoints
from leptond.clock import Clock
from leptond.config import Settings
from leptond.core.cost import Demand
from leptond.core.planner import Memory
from leptond.durations import FAST_S, Durations
from leptond.store import Store, attempts, ledger, planning
from leptond.supervisor import OBSTACLE_S, Supervisor

log = structlog.get_logger("leptond.scheduler")

LONGEST_SLEEP_S = 3600.0
NO_ROOM_S = 5.0
"""How soon to look again while the disk has no room for a start."""

TIMER_SLEEP_S = 60.0
"""Longest sleep while a back-off or a begin time runs: their clocks go on in a suspend, that of a sleep
does not."""

NOTE_S = 1.0
"""How long a change of what the queue is like for free GPUs waits for a claim to be written with."""


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
        may_start: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._clock = clock
        self._policy = settings.policy()
        self._cpu_slots = settings.cpu_slots()
        self._sick = sick
        self._may_start = may_start
        self.times = Durations(FAST_S)
        self._changed = asyncio.Event()
        self._woken: float | None = None
        self._looked: float | None = None
        self._demand: tuple[Demand, str] | None = None
        self._unnoted: list[tuple[float, Demand, str]] = []
        store.on_commit(self.wake)

    def wake(self) -> None:
        """Something has changed: look again."""
        if self._woken is None:
            self._woken = self._clock.wall()
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._changed.clear()
            began = time.perf_counter()
            try:
                sleep_s = await self.turn()
            except sqlite3.OperationalError as error:
                log.error("cannot schedule now", error=str(error))
                sleep_s = 1.0
            self.times.note(time.perf_counter() - began)
            try:
                async with asyncio.timeout(sleep_s):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def turn(self) -> float:
        """One look at the queue: stops are delivered, then what can start is started. How long the next
        look can wait, in seconds, if nothing changes."""
        woken, self._woken = self._woken, None
        snapshot = await self._store.read(self._look)
        self._note(snapshot, woken)
        for attempt_id, reason, grace_s in snapshot.stops:
            attempt = await self._store.read(attempts.get, attempt_id)
            self._supervisor.stop(attempt_id, attempt, reason, grace_s)
        if snapshot.decided.plan.memory != snapshot.memory:
            await self._store.write(planning.remember, snapshot.decided.plan.memory)
        for preempt in snapshot.decided.plan.preempts:
            # durable first; the stop itself is delivered by the next look, which this commit wakes
            await self._store.write(attempts.preempt, preempt, now=self._clock.wall())
        if snapshot.decided.plan.starts and not self._may_start():
            return NO_ROOM_S
        if snapshot.decided.plan.starts and await self._supervisor.obstacle():
            return OBSTACLE_S
        for start in snapshot.decided.plan.starts:
            failpoints.fp("before_claim")
            claim = await self._store.write(
                attempts.claim,
                start,
                attempt_id=secrets.token_hex(16),
                now=self._clock.wall(),
                boot=self._clock.boot(),
                boot_id=self._clock.boot_id,
                turn=attempts.Turn(looked=self._looked, woken=woken, demand=tuple(self._unnoted)),
            )
            failpoints.fp("after_claim")
            self._unnoted.clear()
            if claim is not None:
                self._supervisor.start(claim)
        self._looked = snapshot.at
        sleep_s = (
            min(TIMER_SLEEP_S, snapshot.next_wake) if snapshot.next_wake is not None else LONGEST_SLEEP_S
        )
        if snapshot.decided.plan.wake_at is not None:
            sleep_s = min(sleep_s, TIMER_SLEEP_S, max(0.01, snapshot.decided.plan.wake_at - snapshot.at))
        if self._unnoted:
            if self._clock.wall() - self._unnoted[0][0] >= NOTE_S:
                await self.write_notes()
            sleep_s = min(sleep_s, NOTE_S)
        return sleep_s

    def _note(self, snapshot: _Snapshot, woken: float | None) -> None:
        """Keeps in mind how the queue is for GPUs that stay free, if that has changed: since what woke us,
        or since the GPUs came free."""
        if snapshot.decided.demand is None or snapshot.decided.demand == (self._demand or snapshot.noted):
            return
        since = min(woken, snapshot.at) if woken is not None else snapshot.at
        if self._looked is not None and snapshot.released is not None and snapshot.released > self._looked:
            since = min(since, snapshot.released)
        self._demand = snapshot.decided.demand
        self._unnoted.append((since, *self._demand))

    async def write_notes(self) -> None:
        """Stores what has been kept in mind for the ledger."""
        notes, self._unnoted = tuple(self._unnoted), []
        if notes:
            await self._store.write(ledger.note_demand, notes)

    def _look(self, db: sqlite3.Connection) -> _Snapshot:
        now, boot = self._clock.wall(), self._clock.boot()
        return _Snapshot(
            at=now,
            memory=planning.recall(db),
            decided=planning.decide(
                db, now=now, boot=boot, sick=self._sick(), cpu_slots=self._cpu_slots, policy=self._policy
            ),
            stops=planning.stops(db),
            next_wake=planning.next_wake(db, now=now, boot=boot),
            noted=ledger.newest_demand(db),
            released=ledger.newest_release(db),
        )


class _Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    at: float
    memory: Memory
    decided: planning.Decided
    noted: tuple[Demand, str]
    released: float | None
    stops: Sequence[tuple[str, str, float]]
    next_wake: float | None
