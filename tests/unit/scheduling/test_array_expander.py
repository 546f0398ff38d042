"""Compact arrays are expanded ahead of need, and nothing plans anew for members beyond its window."""

import asyncio
import contextlib

from leptond.scheduling import array_expander
from leptond.scheduling.array_expander import ArrayExpander
from leptond.store.queue import compact_arrays
from tests.support.node import node_world

COUNT = "SELECT count(*) FROM jobs"


def count(world):
    return world.store.read(lambda db: db.execute(COUNT).fetchone()[0])


async def test_enough_members_are_expanded_and_no_more(tmp_path):
    async with node_world(tmp_path, begin=False) as world:
        await world.submit(array="0-99999")
        assert await count(world) == compact_arrays.AT_ONCE
        expander = ArrayExpander(world.store, world.node.clock)
        await expander.refill()
        expanded = await count(world)
        assert compact_arrays.LOW <= expanded <= compact_arrays.HIGH + compact_arrays.SLICE
        commits = world.store.commits
        await expander.refill()
        assert world.store.commits == commits, "nothing is written while there are enough"


async def test_members_beyond_the_planners_window_wake_no_scheduler(tmp_path, monkeypatch):
    async with node_world(tmp_path, begin=False) as world:
        woken = []
        world.store.on_change(lambda: woken.append(world.store.commits))
        expander = ArrayExpander(world.store, world.node.clock)
        await world.submit(array="0-99999")
        woken.clear()
        before = world.store.commits
        await expander.refill()
        assert world.store.commits > before
        assert len(woken) < world.store.commits - before


async def test_it_expands_after_a_wake_and_rests_else(tmp_path, monkeypatch):
    monkeypatch.setattr(array_expander, "PAUSE_S", 0.0)
    async with node_world(tmp_path, begin=False) as world:
        expander = ArrayExpander(world.store, world.node.clock)
        running = asyncio.create_task(expander.run())
        try:
            await world.until(lambda: expander.at_rest, "its first round")
            await world.submit(array="0-9999")
            expander.wake()
            async with asyncio.timeout(30):
                while await count(world) <= compact_arrays.AT_ONCE:
                    await world.tick()
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
