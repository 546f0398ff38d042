"""The deck: shims that stand at their gates before their jobs are claimed. Who is to stand there is decided
in core/deck.py; here they are brought up and sent away."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Sequence

import structlog

from leptond import failpoints
from leptond.clock import Clock
from leptond.core.deck import moves
from leptond.core.model import Job
from leptond.engines.base import Engine, SpawnFailed
from leptond.store.turns import Ready

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
        self._jobs: dict[int, Job] = {}
        self._ready: dict[int, Ready] = {}
        self._held = 0
        self._closed = False
        self._paused_until = 0.0
        self.on_ready: Callable[[], None] = lambda: None

    def ready(self) -> dict[int, Ready]:
        """Who stands at his gate, by job."""
        lost = [id for id, ready in self._ready.items() if not self._engine.stands(ready.attempt_id)]
        here = {id: ready for id, ready in self._ready.items() if id not in lost}
        for job_id in lost if not self._held else ():  # else he may have gone, and ended, before his claim
            log.warning("lost a supervising process on deck", job=job_id)
            self._send_away(job_id)
        return here

    def jobs(self) -> list[int]:
        """Who stands there or is on his way, by job."""
        return list(self._jobs)

    def hold(self) -> None:
        """Nobody is sent away while a transaction may claim him; ended by :meth:`taken`."""
        self._held += 1

    def taken(self, attempt_ids: Collection[str]) -> None:
        """These have been claimed, and are no longer ours."""
        self._held -= 1
        for job_id, ready in list(self._ready.items()):
            if ready.attempt_id in attempt_ids:
                del self._ready[job_id], self._jobs[job_id]

    def arrange(self, wanted: Sequence[Job], pending: Collection[Job]) -> None:
        """Brings up and sends away. `pending`: of the jobs that are here, those that still wait."""
        fresh, gone = moves(self._jobs, wanted, {job.id: job for job in pending}, self.size)
        for job_id in gone if not self._held else ():
            self._send_away(job_id)
        if self._clock.boot() < self._paused_until:
            return
        for job in fresh:
            self._jobs[job.id] = job
            self._group.create_task(self._bring_up(job), name=f"deck-{job.id}")

    def _send_away(self, job_id: int) -> None:
        ready = self._ready.pop(job_id, None)
        if ready is not None:  # else he is on his way, and can leave when he has arrived
            del self._jobs[job_id]
            self._group.create_task(self._engine.undo(ready.attempt_id), name=f"undo-{job_id}")

    async def _bring_up(self, job: Job) -> None:
        attempt_id = secrets.token_hex(16)
        try:
            shim = await self._engine.prepare(job, attempt_id)
        except SpawnFailed as error:
            log.info("nobody stands on deck for a while", error=str(error))
            self._paused_until = self._clock.boot() + PAUSE_S
            self._jobs.pop(job.id, None)
            return
        failpoints.fp("on_deck")
        if self._closed:
            await self._engine.undo(attempt_id)
            return
        self._ready[job.id] = Ready(job=job, attempt_id=attempt_id, shim=shim)
        self.on_ready()

    async def clear(self) -> None:
        """Sends everybody away."""
        self._closed = True
        ready, self._ready, self._jobs = self._ready, {}, {}
        await asyncio.gather(*(self._engine.undo(one.attempt_id) for one in ready.values()))
