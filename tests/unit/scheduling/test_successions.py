"""What is given out: the successors of a line in its order, without a gap, whatever happens meanwhile."""

import asyncio
import contextlib
from types import SimpleNamespace

from leptond.base.clock import SystemClock
from leptond.core.jobs.model import LeasedGpu
from leptond.core.scheduling.handover import Line, Outlook, Successor
from leptond.core.scheduling.standby import Prepared
from leptond.scheduling.successions import Successions
from leptond.store.planning import successors


class Engine:
    """An engine whose attempts wait until they are let go."""

    def __init__(self):
        self.given, self.over = [], {}

    def succeed(self, name, attempt_id, slots, *, behind, until_boot):
        self.given.append(attempt_id)
        self.over[attempt_id] = asyncio.get_running_loop().create_future()
        return True

    def withdraw(self, attempt_id):
        pass

    async def outcome(self, attempt_id, job_id, number):
        return await self.over[attempt_id]

    def end_succession(self, name):
        pass


class World:
    """Successions of three prepared attempts, and one line for all of them. `naming` is called while their
    names are being written."""

    def __init__(self, group):
        jobs = {number: SimpleNamespace(id=number, attempt=0) for number in (1, 2, 3)}
        self.prepared = {id: Prepared(job=job, attempt_id=f"a{id}", shim=None) for id, job in jobs.items()}
        self.here = dict(self.prepared)
        self.engine, self.naming, self.changes = Engine(), None, 0
        standby = SimpleNamespace(
            prepared=lambda: self.here, hold=lambda job_id: None, release=lambda job_id: None
        )
        store = SimpleNamespace(write=self.write)
        self.successions = Successions(store, self.engine, SystemClock(), standby, group, self.changed)

    def changed(self):
        self.changes += 1

    async def write(self, change, wanted, *more, wakes_scheduler):
        if self.naming is not None:
            await self.naming()
        return {one.prepared.attempt_id for one, _ in wanted} if change is successors.name else None

    async def follow(self, count, until=float("inf")):
        """Give out the outlook with the first `count` jobs."""
        found = [Successor(prepared=self.prepared[id]) for id in range(1, count + 1)]
        slots = {"runs": [LeasedGpu(uuid="GPU-0", index=0)]}
        line = Line(slots=slots, successors=found, alike=True, until=until)
        await self.successions.follow(Outlook(lines=[line]), lambda: True)


@contextlib.asynccontextmanager
async def three():
    async with asyncio.TaskGroup() as group:
        world = World(group)
        yield world
        world.successions.abandon()


async def test_what_can_not_be_named_yet_is_waited_for_and_not_passed_over():
    async with three() as world:
        world.successions._gone.add("a1")
        gone = world.successions.begin_unnaming()
        await world.follow(3)
        assert world.engine.given == []
        world.successions.end_unnaming(gone, durable=True)
        await world.follow(3)
        assert world.engine.given == ["a1", "a2", "a3"]


async def test_what_has_started_since_is_left_out():
    async with three() as world:
        del world.here[1]
        await world.follow(3)
        assert world.engine.given == ["a2", "a3"]


async def test_nobody_waits_behind_one_that_leaves():
    async with three() as world:
        await world.follow(2)

        async def one_leaves():
            world.naming = None
            one = world.successions.holding([2])
            asyncio.get_running_loop().call_soon(world.engine.over["a2"].set_result, None)
            world.successions._begin_withdrawal(one[0], 1)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        world.naming = one_leaves
        await world.follow(3)
        assert world.engine.given == ["a1", "a2"], "the third would start before the second"
        assert world.changes, "it is looked at again"


async def test_what_waits_is_not_given_out_again_when_the_time_of_its_line_is_over_meanwhile():
    async with three() as world:
        times = iter([9.0] * 9)
        world.successions._clock = SimpleNamespace(wall=lambda: next(times), boot=lambda: 0.0)
        await world.follow(2, until=10.0)
        times = iter([9.9] + [10.1] * 9)  # it passes while what others do not agree with is taken back
        await world.follow(2, until=20.0)
        assert world.engine.given == ["a1", "a2"]
        assert len(world.successions.holding([1, 2])) == 1
