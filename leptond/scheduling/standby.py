"""The deck: shims that stand at their gates before their jobs are claimed. Who is to stand there is decided
in core/deck.py; here they are brought up and sent away."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Sequence

import structlog
from msgspec.structs import replace

from leptond.base import failpoints
from leptond.base.clock import Clock
from leptond.core.jobs.model import Identity, Job
from leptond.core.scheduling.standby import moves
from leptond.engines.base import Engine, SpawnFailed
from leptond.store.planning.commit_plan import Ready

log = structlog.get_logger("leptond.deck")

PAUSE_S = 5.0
"""How long nobody is brought up after somebody could not be."""


class Deck:
    """At most `size` prepared attempts, each brought up in a task of `group`."""

    def __init__(self, engine: Engine, clock: Clock, group: asyncio.TaskGroup, size: int) -> None:
        self._engine = engine
        self._clock = clock
        self._group = group
        self.size = size
        self._ready: dict[int, Ready] = {}
        self._arrivals: dict[str, asyncio.Future[Identity]] = {}
        self._held = 0
        self._closed = False
        self._paused_until = 0.0
        self.on_ready: Callable[[], None] = lambda: None

    def ready(self) -> dict[int, Ready]:
        """Who stands at his gate, or is on his way to it, by job."""
        lost = [
            id
            for id, ready in self._ready.items()
            if ready.shim is not None and not self._engine.is_prepared(ready.attempt_id)
        ]
        here = {id: ready for id, ready in self._ready.items() if id not in lost}
        for job_id in lost if not self._held else ():  # else he may have gone, and ended, before his claim
            log.warning("lost a supervising process on deck", job=job_id)
            self._send_away(job_id)
        return here

    def jobs(self) -> list[int]:
        """Who stands there or is on his way, by job."""
        return list(self._ready)

    def hold(self) -> None:
        """Nobody is sent away while a transaction may claim him; ended by :meth:`taken`."""
        self._held += 1

    def taken(self, attempt_ids: Collection[str]) -> None:
        """These have been claimed, and are no longer ours. Of one that was claimed on his way,
        :meth:`coming` still tells."""
        self._held -= 1
        for job_id, ready in list(self._ready.items()):
            if ready.attempt_id in attempt_ids:
                del self._ready[job_id]

    def coming(self, attempt_id: str) -> asyncio.Future[Identity] | None:
        """Of one that was claimed on his way: his arrival, or SpawnFailed."""
        return self._arrivals.pop(attempt_id, None)

    def arrange(self, wanted: Sequence[Job], pending: Collection[Job]) -> None:
        """Brings up and sends away. `pending`: of the jobs that are here, those that still wait."""
        here = {job_id: ready.job for job_id, ready in self._ready.items()}
        fresh, gone = moves(here, wanted, {job.id: job for job in pending}, self.size)
        for job_id in gone if not self._held else ():
            self._send_away(job_id)
        if self._clock.boot() < self._paused_until:
            return
        for job in fresh:
            self._summon(job)

    def expect(self, starting: Collection[Job]) -> None:
        """These are about to be claimed: those that are not here yet come up beside the commit."""
        if self._clock.boot() < self._paused_until:
            return
        for job in starting:
            if job.id not in self._ready:
                self._summon(job)

    def _summon(self, job: Job) -> None:
        ready = self._ready[job.id] = Ready(job=job, attempt_id=secrets.token_hex(16), shim=None)
        self._arrivals[ready.attempt_id] = asyncio.get_running_loop().create_future()
        self._group.create_task(self._bring_up(ready), name=f"deck-{job.id}")

    def _send_away(self, job_id: int) -> None:
        ready = self._ready[job_id]
        if ready.shim is not None:  # else he can leave when he has arrived
            del self._ready[job_id], self._arrivals[ready.attempt_id]
            self._group.create_task(self._engine.discard(ready.attempt_id), name=f"discard-{job_id}")

    async def _bring_up(self, ready: Ready) -> None:
        job, arrival = ready.job, self._arrivals[ready.attempt_id]
        await asyncio.sleep(0)  # a commit that waits goes to its thread first
        try:
            shim = await self._engine.prepare(job, ready.attempt_id)
        except SpawnFailed as error:
            log.info("nobody stands on deck for a while", error=str(error))
            self._paused_until = self._clock.boot() + PAUSE_S
            if self._ready.get(job.id) == ready:
                del self._ready[job.id], self._arrivals[ready.attempt_id]
            arrival.set_exception(error)
            arrival.exception()  # it may be nobody's business
            return
        failpoints.fp("on_deck")
        arrival.set_result(shim)
        if self._ready.get(job.id) == ready:
            self._ready[job.id] = replace(ready, shim=shim)
            self.on_ready()
        elif self._closed:
            await self._engine.discard(ready.attempt_id)

    async def clear(self) -> None:
        """Sends everybody away."""
        self._closed = True
        ready, self._ready, self._arrivals = self._ready, {}, {}
        here = [one.attempt_id for one in ready.values() if one.shim is not None]
        await asyncio.gather(*(self._engine.discard(attempt_id) for attempt_id in here))
