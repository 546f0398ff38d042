"""Prepared attempts: how many, for whom, and when they are discarded."""

import asyncio
import contextlib

from msgspec.structs import replace

from leptond.base.clock import SystemClock
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import JobSpec
from leptond.engines.base import SpawnFailed
from leptond.scheduling.standby import PAUSE_S, Standby
from leptond.store.database import rows
from leptond.store.queue import jobs
from tests.simulation.store import database
from tests.support.engine import FakeEngine


class Clock(SystemClock):
    """Time after the boot that moves only when a test moves it."""

    now = 100.0

    def boot(self):
        return self.now


class World:
    """A standby whose arrivals can be waited for."""

    def __init__(self, group, places):
        self.engine = FakeEngine()
        self.arrived = 0
        self._news = asyncio.Event()
        self.clock = Clock()
        self.standby = Standby(self.engine, self.clock, group, places, self._arrived)
        self.pending = some_jobs()

    def _arrived(self):
        self.arrived += 1
        self._news.set()

    async def ready(self, count):
        async with asyncio.timeout(30):
            while self.arrived < count:
                self._news.clear()
                await self._news.wait()
        return self.standby.prepared()

    async def settle(self):
        """Lets what has been begun come to its end: nothing of it waits for anything."""
        for _ in range(10):
            await asyncio.sleep(0)


def some_jobs():
    with contextlib.closing(database()) as db:
        admitted = admit(JobSpec(argv=["true"]), gpus=0, home="/", defaults=Defaults())
        jobs.submit(db, [admitted] * 6, user="ada", now=1.0, max_pending=10)
        return [rows.job(row) for row in db.execute("SELECT * FROM jobs ORDER BY id")]


@contextlib.asynccontextmanager
async def a_standby(places=2):
    async with asyncio.TaskGroup() as group:
        yield World(group, places)


async def test_the_likeliest_jobs_are_prepared_and_no_more_than_there_are_places():
    async with a_standby() as world:
        world.standby.refill(world.pending[:4], [])
        ready = await world.ready(2)
        assert list(ready) == world.standby.jobs() == [1, 2]
        assert all(world.standby.is_ready(one) for one in ready.values())
        assert sorted(world.engine.gates.values()) == [1, 2]
        assert len({one.attempt_id for one in ready.values()}) == 2


async def test_an_attempt_on_its_way_counts_and_is_not_ready():
    async with a_standby() as world:
        world.engine.hold_back(True)
        world.standby.refill(world.pending[:1], [])
        (one,) = world.standby.prepared().values()
        assert one.shim is None
        assert not world.standby.is_ready(one)
        world.standby.refill(world.pending[:1], world.pending[:1])
        assert len(world.standby.prepared()) == 1
        world.engine.hold_back(False)
        (one,) = (await world.ready(1)).values()
        assert world.standby.is_ready(one)


async def test_what_is_of_no_use_any_more_is_discarded():
    async with a_standby() as world:
        world.standby.refill(world.pending[:2], [])
        ready = await world.ready(2)
        edited = replace(world.pending[1], time_limit_s=5.0)
        world.standby.refill([edited], [edited])  # the first no longer waits
        await world.settle()
        assert sorted(world.engine.discarded) == sorted(one.attempt_id for one in ready.values())
        world.standby.refill([edited], [edited])
        now = await world.ready(3)
        assert {job: one.job for job, one in now.items()} == {2: edited}


async def test_an_attempt_that_was_released_and_ended_before_its_claim_is_not_discarded():
    """Found by simulation (seed 40064): the disk took no commit, the successor had run and ended meanwhile,
    was taken for lost, and its end was never recorded."""
    async with a_standby() as world:
        world.standby.refill(world.pending[:1], [])
        (one,) = (await world.ready(1)).values()
        world.standby.lock()
        world.engine.gates.clear()
        assert world.standby.prepared() == {}, "nothing else may claim it"
        await world.settle()
        assert world.engine.discarded == []
        world.standby.unlock({one.attempt_id})
        assert world.standby.prepared() == {}
        assert world.standby.jobs() == []
        assert world.engine.discarded == [], "it is the supervisor's now"

        world.standby.refill(world.pending[:1], [])
        (other,) = (await world.ready(2)).values()
        world.standby.lock()
        world.engine.gates.clear()
        world.standby.prepared()
        world.standby.unlock({"another"})
        world.standby.prepared()
        await world.settle()
        assert world.engine.discarded == [other.attempt_id], "it was lost, and nothing had claimed it"


async def test_nothing_is_discarded_while_a_transaction_may_claim_it():
    async with a_standby() as world:
        world.standby.refill(world.pending[:1], [])
        (one,) = (await world.ready(1)).values()
        world.standby.lock()
        world.standby.lock()
        world.standby.refill([], [])
        world.standby.unlock(())
        world.standby.refill([], [])
        await world.settle()
        assert world.engine.discarded == []
        world.standby.unlock(())
        world.standby.refill([], [])
        await world.settle()
        assert world.engine.discarded == [one.attempt_id]


async def test_an_attempt_that_was_claimed_on_its_way_tells_of_its_arrival_once():
    async with a_standby() as world:
        world.engine.hold_back(True)
        world.standby.prepare(world.pending[:1])
        (one,) = world.standby.prepared().values()
        world.standby.lock()
        world.standby.unlock({one.attempt_id})
        arrival = world.standby.arrival(one.attempt_id)
        assert world.standby.arrival(one.attempt_id) is None
        world.engine.hold_back(False)
        shim = await arrival
        assert shim.pid > 0
        assert world.standby.jobs() == []
        assert world.engine.discarded == [], "it has been claimed"
        assert world.arrived == 0, "it is no news for the scheduler"


async def test_after_a_failure_nothing_is_prepared_for_a_while():
    async with a_standby() as world:
        world.engine.spawn_error = SpawnFailed("too many processes")
        world.standby.refill(world.pending[:1], [])
        await world.settle()
        assert world.standby.jobs() == []
        world.engine.spawn_error = None
        world.standby.refill(world.pending[:1], [])
        world.standby.prepare(world.pending[:1])
        assert world.standby.jobs() == []
        world.clock.now += PAUSE_S
        world.standby.refill(world.pending[:1], [])
        await world.ready(1)


async def test_at_the_end_everything_is_discarded_also_what_arrives_later():
    async with a_standby() as world:
        world.standby.refill(world.pending[:1], [])
        (one,) = (await world.ready(1)).values()
        world.engine.hold_back(True)
        world.standby.refill(world.pending[:2], world.pending[:1])
        (late,) = [other.attempt_id for other in world.standby.prepared().values() if other != one]
        await world.settle()
        await world.standby.clear()
        assert world.engine.discarded == [one.attempt_id]
        world.engine.hold_back(False)
        await world.settle()
        assert world.engine.discarded == [one.attempt_id, late]
        assert world.standby.jobs() == []


async def test_an_attempt_arrives_although_nobody_waits_for_it_any_more():
    async with a_standby() as world:
        for fails in (False, True):
            world.engine.hold_back(True)
            world.standby.prepare(world.pending[fails : fails + 1])
            (one,) = world.standby.prepared().values()
            world.standby.unlock([one.attempt_id])  # it was claimed
            world.standby.arrival(one.attempt_id).cancel()
            if fails:
                world.engine.spawn_error = SpawnFailed("too many processes")
            world.engine.hold_back(False)
            await world.settle()
