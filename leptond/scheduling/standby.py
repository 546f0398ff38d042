"""Standby: shims that wait at their gates before their jobs are claimed. Which ones is decided in
core/scheduling/standby.py; here they are prepared and discarded.

On the way of a start this comes first: a prepared attempt is claimed by a scheduling pass or by a hand-over
(handover.py), and then belongs to the supervisor (supervisor.py)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence

import structlog
from msgspec.structs import replace

from leptond.base import failpoints
from leptond.base.clock import Clock
from leptond.core.jobs.model import Identity, Job
from leptond.core.scheduling.standby import Prepared, standby_changes
from leptond.engines.base import Engine, SpawnFailed

log = structlog.get_logger("leptond.standby")

PAUSE_S = 5.0
"""Pause after a preparation has failed."""


class Standby:
    """At most `places` prepared attempts, each prepared in a task of `group`. `on_ready` is called when one
    has reached its gate."""

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        group: asyncio.TaskGroup,
        places: int,
        on_ready: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._group = group
        self.places = places
        self._on_ready = on_ready
        self._prepared: dict[int, Prepared] = {}
        self._arrivals: dict[str, asyncio.Future[Identity]] = {}
        self._locks = 0
        self._held: set[int] = set()
        self._started: set[int] = set()
        self._closed = False
        self._paused_until = 0.0

    def prepared(self) -> dict[int, Prepared]:
        """Return the prepared attempts by job id, including those still on their way to the gate."""
        lost = [job_id for job_id, one in self._prepared.items() if one.shim and not self.is_ready(one)]
        here = {job_id: one for job_id, one in self._prepared.items() if job_id not in lost}
        if not self._locks:  # else its gate may have been opened, and it may have ended, before its claim
            for job_id in set(lost) - self._held:
                log.warning("standby.lost", job=job_id)
                self._discard(job_id)
        return here

    def is_ready(self, prepared: Prepared) -> bool:
        """Return True if the shim of a prepared attempt waits at its gate."""
        return prepared.shim is not None and self._engine.is_prepared(prepared.attempt_id)

    def jobs(self) -> list[int]:
        """Return the ids of the jobs of all prepared attempts."""
        return list(self._prepared)

    def hold(self, job_id: int) -> None:
        """Do not discard a prepared attempt, which may start at any moment, until :meth:`release` or
        :meth:`started`."""
        self._held.add(job_id)

    def release(self, job_id: int) -> None:
        """A prepared attempt waits at its gate as before."""
        self._held.discard(job_id)

    def started(self, job_id: int) -> None:
        """A prepared attempt has started, and is no longer ours. Until that is :meth:`booked`, its job still
        waits in the database, and is not prepared again."""
        self._held.discard(job_id)
        self._started.add(job_id)
        one = self._prepared.pop(job_id)
        self._arrivals.pop(one.attempt_id, None)

    def booked(self, job_id: int) -> None:
        """The start of an attempt is durable."""
        self._started.discard(job_id)

    def lock(self) -> None:
        """Discard nothing while a transaction may claim a prepared attempt; ended by :meth:`unlock`."""
        self._locks += 1

    def unlock(self, claimed: Collection[str]) -> None:
        """End a :meth:`lock`. The attempts `claimed` (ids) are no longer ours; of one that was claimed on its
        way to the gate, :meth:`arrival` still tells."""
        self._locks -= 1
        for job_id, one in list(self._prepared.items()):
            if one.attempt_id in claimed:
                del self._prepared[job_id]

    def arrival(self, attempt_id: str) -> asyncio.Future[Identity] | None:
        """Return, for an attempt that was claimed on its way to the gate, the future of its shim (or
        SpawnFailed). Once for each attempt."""
        return self._arrivals.pop(attempt_id, None)

    def refill(self, wanted: Sequence[Job], pending: Collection[Job]) -> None:
        """Prepare the jobs that are `wanted`, and discard what is of no use. `pending`: of the prepared jobs,
        those that still wait, as they are now."""
        here = {job_id: one.job for job_id, one in self._prepared.items()}
        fresh, gone = standby_changes(here, wanted, {job.id: job for job in pending}, self.places)
        for job_id in gone if not self._locks else ():
            if job_id not in self._held:
                self._discard(job_id)
        self.prepare(fresh)

    def prepare(self, jobs: Collection[Job]) -> None:
        """Prepare those of these jobs that are not prepared yet. For jobs that are about to be claimed that
        goes on beside the commit."""
        if self._clock.boot() < self._paused_until:
            return
        for job in jobs:
            if job.id not in self._prepared and job.id not in self._started:
                self._begin(job)

    def _begin(self, job: Job) -> None:
        one = self._prepared[job.id] = Prepared(job=job, attempt_id=secrets.token_hex(16), shim=None)
        arrival = self._arrivals[one.attempt_id] = asyncio.get_running_loop().create_future()
        self._group.create_task(self._prepare(one, arrival), name=f"prepare-{job.id}")

    def _discard(self, job_id: int) -> None:
        one = self._prepared[job_id]
        if one.shim is not None:  # else it can be discarded when it has reached its gate
            del self._prepared[job_id], self._arrivals[one.attempt_id]
            self._group.create_task(self._engine.discard(one.attempt_id), name=f"discard-{job_id}")

    async def _prepare(self, one: Prepared, arrival: asyncio.Future[Identity]) -> None:
        job = one.job
        await asyncio.sleep(0)  # a commit that waits goes to its thread first
        try:
            shim = await self._engine.prepare(job, one.attempt_id)
        except SpawnFailed as error:
            log.info("standby.paused", error=str(error), retry_s=PAUSE_S)
            self._paused_until = self._clock.boot() + PAUSE_S
            if self._prepared.get(job.id) == one:
                del self._prepared[job.id], self._arrivals[one.attempt_id]
            if not arrival.cancelled():
                arrival.set_exception(error)
                arrival.exception()  # retrieved here: the attempt may not have been claimed by anybody
            return
        failpoints.fp("on_deck")
        if not arrival.cancelled():  # with the supervisor's task that waited for it, at the daemon's end
            arrival.set_result(shim)
        if self._prepared.get(job.id) == one:
            self._prepared[job.id] = replace(one, shim=shim)
            self._on_ready()
        elif self._closed:
            await self._engine.discard(one.attempt_id)

    async def renew(self, take_back: Callable[[int], Awaitable[None]], renewed: Callable[[], None]) -> None:
        """Prepare anew, one by one, what would start in a better way by now. `take_back` sees to it that the
        prepared attempt of a job no longer starts by itself, or has started; `renewed` is called for each.
        Runs until cancelled."""
        while True:
            await self._engine.warmer()
            for job_id, one in list(self._prepared.items()):
                if one.shim is not None and self._engine.is_outdated(one.attempt_id):
                    await self._renew(job_id, one, take_back)
                    renewed()

    async def _renew(self, job_id: int, one: Prepared, take_back: Callable[[int], Awaitable[None]]) -> None:
        fresh = secrets.token_hex(16)
        try:
            shim = await self._engine.prepare(one.job, fresh)
        except SpawnFailed:
            return  # it starts as it was prepared
        await take_back(job_id)
        wanted = self._prepared.get(job_id) is one and job_id not in self._held
        if self._locks or self._closed or not wanted:
            await self._engine.discard(fresh)  # it may be about to start
            return
        self._discard(job_id)
        arrival = self._arrivals[fresh] = asyncio.get_running_loop().create_future()
        arrival.set_result(shim)
        self._prepared[job_id] = Prepared(job=one.job, attempt_id=fresh, shim=shim)

    async def clear(self) -> None:
        """Discard everything, for the end of the daemon."""
        self._closed = True
        prepared, self._prepared, self._arrivals = self._prepared, {}, {}
        here = [one.attempt_id for one in prepared.values() if one.shim is not None]
        await asyncio.gather(*(self._engine.discard(attempt_id) for attempt_id in here))
