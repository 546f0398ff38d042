"""The loop that turns plans into starts. It sleeps until something has changed: a commit, a GPU, a prepared
attempt, or the end of a back-off; it does not poll.

The way of a pass, from top to bottom: :mod:`pass_reader` reads one snapshot and plans; what was decided is
committed (store/planning/commit_plan.py) while the shims of the starting jobs come up (standby.py); the
supervisor starts what was claimed (supervisor.py); the jobs that come next are prepared, and the successors
of the running ones named (handover.py)."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import NamedTuple

import msgspec
import structlog

from leptond.base import failpoints
from leptond.base.clock import Clock
from leptond.base.histogram import DurationHistogram
from leptond.core.scheduling.handover import Step, WakeReason, next_step
from leptond.scheduling.handover import HandOver
from leptond.scheduling.idle_notes import IdleNotes
from leptond.scheduling.pass_reader import PassReader, PassView
from leptond.scheduling.standby import Standby
from leptond.scheduling.start_permit import StartPermit
from leptond.scheduling.successions import Successions
from leptond.scheduling.supervisor import Supervisor
from leptond.scheduling.wakeup import Wakeup
from leptond.store import Store, StoreUnavailable
from leptond.store.planning import snapshot
from leptond.store.queue import attempts
from leptond.store.queue.attempts import Claim

log = structlog.get_logger("leptond.scheduler")

LONGEST_SLEEP_S = 3600.0

TIMER_SLEEP_S = 60.0
"""Longest sleep while a back-off or a begin time runs: their clocks go on in a suspend, that of a sleep
does not."""

COMMIT_S = 1.0
"""Time until the next pass after a commit that was under way, should it fail: else it wakes us itself."""

RETRY_S = 1.0
"""Time until the next pass when the database could not be read or written."""


class LastPass(NamedTuple):
    """The view of a pass that found nothing to do, at this version of the store."""

    version: int
    view: PassView


class Scheduler:
    """Decides with the pure planner on a snapshot, then claims and starts. `times` takes how long the passes
    take, in seconds."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        wakeup: Wakeup,
        reader: PassReader,
        standby: Standby,
        handover: HandOver,
        successions: Successions,
        supervisor: Supervisor,
        permit: StartPermit,
        notes: IdleNotes,
        times: DurationHistogram,
    ) -> None:
        self._store = store
        self._clock = clock
        self._wakeup = wakeup
        self._reader = reader
        self._standby = standby
        self._handover = handover
        self._successions = successions
        self._supervisor = supervisor
        self._permit = permit
        self._notes = notes
        self._times = times
        self._last: LastPass | None = None

    async def run(self) -> None:
        """Schedule until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._wakeup.arm()
            if loop.time() >= due:
                self._wakeup.timer()
            try:
                due = await self._step(due)
            except StoreUnavailable as error:
                log.error("scheduler.failed", error=str(error), retry_s=RETRY_S)
                due = loop.time() + RETRY_S
            await self._wakeup.wait(due)

    async def _step(self, due: float) -> float:
        """Do what the wake-up calls for. Returns when the next pass is due if nothing changes (loop time;
        `due`: as it was)."""
        loop = asyncio.get_running_loop()
        step = self._next_step()
        if step is Step.SKIP:
            self._wakeup.clear()
            return due
        if step is Step.REFILL:
            self._wakeup.clear()
            wait_s = await self._refill()
            due = due if wait_s is None else min(due, loop.time() + wait_s)
            if not self._wakeup.reasons & (WakeReason.COMMIT | WakeReason.EXTERNAL) and loop.time() < due:
                return due
        began = time.perf_counter()
        wait_s = await self.schedule()
        due = loop.time() + wait_s
        self._times.observe(time.perf_counter() - began)
        return due

    def _next_step(self) -> Step:
        last = self._last
        return next_step(
            self._wakeup.reasons,
            at_rest=self._handover.is_at_rest(),
            replanned=last is not None and last.version == self._store.version,
        )

    async def schedule(self) -> float:
        """Make one pass: deliver stops, then start what can start. Returns how long the next pass can wait,
        in seconds, if nothing changes."""
        woken_at = self._wakeup.clear()
        self._last = None
        version, moment, freed = self._store.version, self._handover.moment(), self._handover.freed
        view = await self._store.read(
            self._reader.read, version, self._standby.jobs(), self._standby.prepared()
        )
        self._notes.note(
            view.decided.idle_cause,
            stored=view.stored_cause,
            at=view.at,
            woken_at=woken_at,
            released_at=view.released_at,
        )
        for attempt_id, reason, grace_s in view.stops:
            attempt = await self._store.read(attempts.get, attempt_id)
            self._supervisor.stop(attempt_id, attempt, reason, grace_s)
        if view.decided.starts and (wait_s := await self._permit.wait_s()):
            return wait_s
        if not view.decided.empty:
            failpoints.fp("before_claim")
            if in_the_way := self._successions.holding([start.id for start in view.decided.starts]):
                await self._successions.withdraw(in_the_way)
                return 0.0  # what has started meanwhile, another plan may start elsewhere
            # durable first; a stop is delivered by the next pass, which this commit wakes
            self._standby.prepare(view.starting)
            await self._claim(view.decided, woken_at)
        elif version is not None:
            self._last = LastPass(version, view)
        self._standby.refill(view.wanted, view.jobs.values())
        if view.decided.empty:
            await self._handover.follow(view.outlook, moment, freed)
        self._notes.passed(view.at)
        return await self._sleep_s(view)

    async def _claim(self, decided: snapshot.Decided, woken_at: float | None) -> None:
        """Commit what was decided, and start what it claimed."""
        batch = self._handover.batch(woken_at)
        claims: list[Claim] | None = None
        try:
            claims = await self._store.write(partial(batch.carry_out, decided=decided))
            failpoints.fp("after_claim")
            for claim in claims:
                self._supervisor.start(claim)
        finally:
            batch.done(claims)

    async def _sleep_s(self, view: PassView) -> float:
        """Return how long the next pass can wait, in seconds."""
        sleep_s = LONGEST_SLEEP_S if view.next_wake_s is None else min(TIMER_SLEEP_S, view.next_wake_s)
        wakes = [line.until for line in view.outlook.lines]
        if view.decided.plan.wake_at is not None:
            wakes.append(view.decided.plan.wake_at)
        for wake_at in wakes:
            sleep_s = min(sleep_s, TIMER_SLEEP_S, max(0.01, wake_at - view.at))
        notes_s = await self._notes.write_due()
        return sleep_s if notes_s is None else min(sleep_s, notes_s)

    async def _refill(self) -> float | None:
        """Fill up the standby and choose the successors among more prepared attempts: what the last pass saw
        still holds. Returns how long the next pass can wait at most, in seconds; None: as long as before."""
        last, version = self._last, self._store.version
        if version is None:
            return COMMIT_S
        if last is None or last.version != version:
            return 0.0
        view, moment, freed = last.view, self._handover.moment(), self._handover.freed
        self._standby.refill(view.wanted, view.jobs.values())
        inputs = msgspec.structs.replace(view.inputs, now=self._clock.wall())
        lines = await self._store.read(
            self._reader.lines, inputs, self._standby.prepared(), view.jobs, view.next_wake_s
        )
        await self._handover.follow(msgspec.structs.replace(view.outlook, lines=lines), moment, freed)
        return None
