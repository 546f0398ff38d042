"""The scheduler's loop: what wakes it, what a pass does, and what it leaves alone."""

import asyncio
import errno
import time
from datetime import UTC, datetime

import pytest

from leptond.base.histogram import FAST_S, DurationHistogram
from leptond.engines.base import SpawnFailed
from leptond.scheduling import scheduler as scheduler_module
from leptond.scheduling import start_permit
from leptond.scheduling.scheduler import Scheduler
from leptond.store import StoreUnavailable
from tests.support.node import node_world


async def test_jobs_start_in_their_order_as_gpus_come_free(tmp_path):
    async with node_world(tmp_path, gpus=2) as world:
        ids = [await world.submit() for _ in range(4)]
        running = [await world.runs(job) for job in ids[:2]]
        assert {gpu.index for one in running for gpu in one.gpus} == {0, 1}
        assert [(await world.job(job)).state for job in ids[2:]] == ["pending"] * 2
        world.engine.end(running[1].id)
        third = await world.runs(ids[2])
        assert third.gpus == running[1].gpus
        assert (await world.job(ids[3])).state == "pending"
        world.engine.end(running[0].id)
        world.engine.end(third.id)
        await world.runs(ids[3])


async def test_jobs_without_gpus_start_in_slots(tmp_path):
    async with node_world(tmp_path, cpu_slots=2) as world:
        ids = [await world.submit(gpus=0) for _ in range(3)]
        for job in ids[:2]:
            await world.runs(job)
        assert (await world.job(ids[2])).state == "pending"


async def test_a_stop_is_delivered_to_the_engine(tmp_path):
    async with node_world(tmp_path) as world:
        job = await world.submit()
        attempt = await world.runs(job)
        await world.cancel(job, grace_s=3.0)
        await world.until(lambda: world.engine.stops, "the stop")
        assert world.engine.stops == [(attempt.id, "cancel", 3.0)]
        world.engine.end(attempt.id, None, signal=15, stop_reason="cancel")
        await world.reached(job, "cancelled")


async def test_a_job_starts_at_its_begin_time_though_nothing_happens(tmp_path):
    async with node_world(tmp_path) as world:
        begin_at = time.time() + 0.3
        job = await world.submit(begin_at=datetime.fromtimestamp(begin_at, UTC))
        attempt = await world.runs(job)
        assert begin_at <= attempt.claimed_at < begin_at + 20


async def test_a_hand_over_within_a_line_is_followed_by_no_pass(tmp_path):
    async with node_world(tmp_path, places=8) as world:
        ids = [await world.submit() for _ in range(8)]
        world.engine.end((await world.runs(ids[0])).id)
        attempt = await world.runs(ids[1])
        # now it is known that they are short
        await world.until(lambda: [len(one) for one in world.engine.offered.values()] == [4], "four")
        passes = await settled(world)
        world.engine.end(attempt.id)
        await world.runs(ids[2])
        assert await settled(world) == passes


async def settled(world):
    """The number of passes, once there are no more of them."""
    passes, ticks = world.passes(), 0
    while ticks < 50:
        await world.tick()
        passes, ticks = (passes, ticks + 1) if world.passes() == passes else (world.passes(), 0)
    return passes


async def test_more_prepared_attempts_are_chosen_from_without_a_pass(tmp_path):
    async with node_world(tmp_path) as world:
        first = await world.submit()
        attempt = await world.runs(first)
        world.engine.hold_back(True)
        await world.submit()
        await world.until(lambda: len(world.node.standby.jobs()) == 1, "it is being prepared")
        passes = await settled(world)
        world.engine.hold_back(False)
        await world.has_successor(attempt.id)
        assert world.passes() == passes


async def test_starts_wait_while_the_disk_takes_nothing_and_go_on_when_it_does(tmp_path, monkeypatch):
    monkeypatch.setattr(start_permit, "RETRY_S", 0.01)
    async with node_world(tmp_path, places=0) as world:
        world.engine.spawn_error = SpawnFailed("no space left", errno.ENOSPC)
        world.engine.disk_error = "no space left"
        first, second = [await world.submit(retries=0) for _ in range(2)]
        await world.until(lambda: world.engine.disk_checks > 0, "a try of the disk after the failed start")
        passes = world.passes()
        await world.until(lambda: world.passes() > passes + 3, "passes that start nothing")
        assert (await world.job(second)).attempt == 0, "it has spent no attempt on it"
        world.engine.spawn_error, world.engine.disk_error = None, ""
        await world.until(lambda: world.engine.released, "a start")
        assert first in (1, second - 1)


@pytest.mark.parametrize("fails", ["read", "write"])
async def test_a_pass_that_the_store_fails_is_made_again(tmp_path, monkeypatch, fails):
    monkeypatch.setattr(scheduler_module, "RETRY_S", 0.01)
    failures = []

    class Flaky:
        """The store, whose first read or write for the scheduler fails."""

        def __init__(self, store):
            self._store = store

        def __getattr__(self, name):
            real = getattr(self._store, name)
            if name != fails or not scheduling.is_set() or len(failures) == 2:
                return real
            failures.append(name)

            async def failing(*args, **more):
                raise StoreUnavailable("disk I/O error")

            return failing

    scheduling = asyncio.Event()
    async with node_world(tmp_path, store_as=Flaky, begin=False) as world:
        job = await world.submit()
        await world.node.settle()
        await world.node.reconcile()
        scheduling.set()
        world.loops = world.node.schedule()
        await world.until(lambda: len(failures) == 2, "failures")
        scheduling.clear()
        await world.runs(job)


async def test_the_times_of_passes_are_kept_for_those_that_succeed(tmp_path):
    async with node_world(tmp_path, begin=False) as world:
        node, times = world.node, DurationHistogram(FAST_S)

        class Broken:
            def read(self, *args):
                raise RuntimeError("no")

        one = Scheduler(
            node.store,
            node.clock,
            node.wakeup,
            Broken(),
            node.standby,
            node.handover,
            node.successions,
            node.supervisor,
            None,
            node.notes,
            times,
        )
        with pytest.raises(RuntimeError):
            await one.run()
        assert times.buckets()[-1][1] == 0
        assert world.passes() == 0


async def test_a_row_that_cannot_be_read_is_set_aside_and_stops_no_other(tmp_path):
    async with node_world(tmp_path, gpus=1) as world:
        running = await world.runs(await world.submit())
        odd, sound = await world.submit(), await world.submit()
        await world.store.write(
            lambda db: db.execute("UPDATE jobs SET spec = '{\"argv\": 5}' WHERE id = ?", (odd,))
        )
        world.engine.end(running.id)
        assert (await world.runs(sound)).job_id == sound
        held = await world.store.read(
            lambda db: db.execute("SELECT held, state FROM jobs WHERE id = ?", (odd,)).fetchone()
        )
        assert tuple(held) == (1, "pending")
