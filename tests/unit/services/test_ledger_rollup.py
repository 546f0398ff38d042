"""Complete days of the ledger are added up, and details past their age go."""

import asyncio

import pytest

from leptond.core.jobs.model import ExitRecord, Identity
from leptond.core.outcome.classify import Evidence, classify
from leptond.core.scheduling.planner import Start
from leptond.services.ledger_rollup import LedgerRollup
from leptond.store.accounting import daily
from leptond.store.queue import attempts
from tests.support.queue import store, submit
from tests.unit.services.test_maintenance import Clock

__all__ = ["store"]

DAY = 86400.0


@pytest.fixture
def clock():
    one = Clock()
    one.now = 1.0
    return one


async def run(store, begin, end):
    """An attempt that held a GPU from `begin` to `end`."""
    job = await submit(store, gpus=1)
    await store.write(
        attempts.claim,
        Start(id=job, gpus=["GPU-0"]),
        attempt_id=f"{job:032x}",
        now=begin,
        boot=begin,
        boot_id="boot",
    )
    shim = Identity(boot_id="boot", pid=1, start_ticks=1)
    await store.write(attempts.started, f"{job:032x}", shim=shim, now=begin, deadline_at=None)
    await store.write(
        attempts.finish,
        f"{job:032x}",
        verdict=classify(Evidence(exit_code=0, run_s=end - begin)),
        record=ExitRecord(
            attempt_id=f"{job:032x}",
            boot_id="boot",
            exit_code=0,
            started_at=begin,
            ended_at=end,
            run_s=end - begin,
        ),
        now=end,
        boot=end,
        boot_id="boot",
        roll=0.0,
    )


async def test_a_day_is_added_up_once_it_is_complete(store, clock):
    await run(store, 1000.0, 1600.0)
    one = LedgerRollup(store, clock, detail_days=30)
    clock.now = DAY - 1
    assert await one.roll_up() == 0
    clock.now = 3 * DAY
    done = await one.roll_up()
    assert done >= 1
    assert await one.roll_up() == 0  # each only once
    assert await store.read(daily.days, 0, 1) != []


async def test_details_past_their_age_are_deleted_and_the_sums_stay(store, clock):
    await run(store, 1000.0, 1600.0)
    clock.now = 10 * DAY
    await LedgerRollup(store, clock, detail_days=30).roll_up()
    sums = await store.read(daily.days, 0, 9)
    assert sums
    first = await store.read(daily.detail_day)
    await run(store, 10 * DAY, 10 * DAY + 60)
    clock.now = 12 * DAY
    await LedgerRollup(store, clock, detail_days=5).roll_up()
    assert await store.read(daily.detail_day) > first
    assert await store.read(daily.days, 0, 9) == sums


async def test_the_loop_begins_at_once(store, clock):
    await run(store, 1000.0, 1600.0)
    clock.now = 3 * DAY
    added = asyncio.Event()
    store.on_commit(added.set)
    task = asyncio.create_task(LedgerRollup(store, clock, detail_days=30).run())
    async with asyncio.timeout(30):
        await added.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
