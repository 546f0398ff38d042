"""A node in the test's own process: the daemon's assembly on a real database and simulated devices, above an
engine in memory."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from leptond.base.clock import SystemClock
from leptond.config import EngineSettings, QueueSettings, Settings
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import Attempt, Job, JobSpec
from leptond.daemon.assembly import Node, assemble
from leptond.engines.base import Engine
from leptond.engines.report_sockets import ReportSockets
from leptond.gpus.simulated import SimulatedBackend
from leptond.services.file_look import FileLook
from leptond.services.gpu_watch import GpuWatch
from leptond.store import Store
from leptond.store.queue import attempts, jobs
from tests.support.engine import FakeEngine
from tests.support.store import open_new_store

PATIENCE_S = 30.0


class NodeWorld:
    """A node and what is below it."""

    def __init__(self, node: Node, engine: FakeEngine, gpus: int) -> None:
        self.node = node
        self.engine = engine
        self.store = node.store
        self.gpus = gpus
        self.loops: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """As the daemon does after its start."""
        await self.node.settle()
        await self.node.reconcile()
        self.loops = self.node.schedule()

    async def submit(self, **spec: Any) -> int:
        """The id of a new job; it needs one GPU unless `spec` says otherwise."""
        admitted = admit(
            JobSpec(argv=["true"], **{"gpus": 1, **spec}), gpus=self.gpus, home="/", defaults=Defaults()
        )
        now = self.node.clock.wall()
        stored, _ = await self.store.write(
            jobs.submit, [admitted], user="ana", now=now, max_pending=10_000_000
        )
        return int(stored[0].ids[0])

    async def cancel(self, job: int, grace_s: float | None = None) -> None:
        now = self.node.clock.wall()
        await self.store.write(jobs.cancel, str(job), by="ana", grace_s=grace_s, reason=None, now=now)

    async def job(self, job: int) -> Job:
        return await self.store.read(jobs.find, str(job))

    async def attempt(self, job: int, number: int | None = None) -> Attempt:
        """An attempt of a job: the newest without a `number`."""

        def find(db: sqlite3.Connection) -> Attempt:
            row = db.execute(
                "SELECT id FROM attempts WHERE job_id = ? AND coalesce(?, number) = number"
                " ORDER BY number DESC LIMIT 1",
                (job, number),
            ).fetchone()
            return attempts.get(db, row["id"])

        return await self.store.read(find)

    async def reached(self, job: int, state: str) -> Job:
        """The job, once it is in `state`."""
        while (found := await self.job(job)).state != state:
            await self.tick()
        return found

    async def until(self, true: Callable[[], Any], what: str = "it") -> None:
        """Waits until `true()`."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not true():
                    await self.tick()
        except TimeoutError:
            raise AssertionError(f"{what} did not come about") from None

    async def tick(self) -> None:
        """Lets the others go on."""
        await asyncio.sleep(0.001)

    async def runs(self, job: int) -> Attempt:
        """The attempt of a job, once its gate is open."""
        await self.reached(job, "running")
        attempt = await self.attempt(job)
        await self.until(lambda: attempt.id in self.engine.released, "the gate's opening")
        return attempt

    async def has_successor(self, attempt_id: str) -> None:
        """Waits until an attempt hands its slot on to one that waits for it."""
        engine = self.engine
        await self.until(lambda: engine.offered.get(engine.holders.get(attempt_id, "")), "a successor")

    def passes(self) -> int:
        """How many scheduling passes there have been."""
        return int(self.node.pass_times.buckets()[-1][1])


@contextlib.asynccontextmanager
async def node_world(
    state_dir: Path,
    *,
    gpus: int = 1,
    places: int = 4,
    cpu_slots: int = 2,
    begin: bool = True,
    has_space: Callable[[], bool] = lambda: True,
    store_as: Callable[[Store], Any] = lambda store: store,
) -> AsyncIterator[NodeWorld]:
    """A node with so many GPUs and places for prepared attempts; `begin`: it schedules already. `store_as`
    may wrap the store."""
    settings = Settings(
        engine=EngineSettings(standby=places), queue=QueueSettings(policy="fifo", cpu_slots=cpu_slots)
    )
    engine, clock = FakeEngine(), SystemClock()
    below: Engine = engine
    async with open_new_store(state_dir / "leptond.db") as store:
        watch = GpuWatch(SimulatedBackend(gpus), store, clock, 3600.0)
        await watch.open()
        try:
            async with asyncio.TaskGroup() as group:
                node = assemble(
                    settings,
                    store_as(store),
                    below,
                    clock,
                    watch,
                    group,
                    FileLook(state_dir),
                    report_sockets=ReportSockets([state_dir / "reports.sock"]),
                    has_space=has_space,
                )
                world = NodeWorld(node, engine, gpus)
                try:
                    if begin:
                        await world.begin()
                    async with asyncio.timeout(2 * PATIENCE_S):
                        yield world
                finally:
                    engine.hold_back(False)
                    for task in world.loops:
                        task.cancel()
                    await node.stop_scheduling()
                    await node.close()
        finally:
            await watch.close()
