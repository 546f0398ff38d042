"""After a start: what runs is adopted, what has ended is recorded, what is left is killed; successors that
have started without a daemon are claimed first."""

import secrets

import pytest

from leptond.base.clock import SystemClock, kernel_boot_id
from leptond.core.jobs.model import Identity
from leptond.core.scheduling.handover import Successor
from leptond.core.scheduling.inputs import Start
from leptond.core.scheduling.standby import Prepared
from leptond.engines.base import Taken
from leptond.store.planning import successors
from leptond.store.queue import attempts, gpus
from tests.support.node import node_world

SHIM = Identity(boot_id=kernel_boot_id(), pid=7, start_ticks=70)


@pytest.fixture
async def world(tmp_path):
    """A node that has not reconciled, with two GPUs."""
    async with node_world(tmp_path, gpus=2, begin=False) as one:
        one.earlier = SystemClock().wall()
        yield one


async def gpu_uuids(world):
    return [gpu.uuid for gpu in await world.store.read(gpus.known)]


async def claimed(world, job, *numbers, shim=SHIM):
    """What an earlier daemon has claimed, with the shim that it had stored."""
    clock = SystemClock()
    uuids = await gpu_uuids(world)
    claim = await world.store.write(
        attempts.claim,
        Start(id=job, gpus=[uuids[number] for number in numbers or (0,)]),
        attempt_id=secrets.token_hex(16),
        now=clock.wall(),
        boot=clock.boot(),
        boot_id=clock.boot_id,
    )
    if shim is not None:
        await world.store.write(
            attempts.started, claim.attempt.id, shim=shim, now=clock.wall(), deadline_at=None
        )
    return await world.store.read(attempts.get, claim.attempt.id)


async def test_an_attempt_whose_shim_is_not_stored_has_never_started(world):
    job = await world.submit()
    attempt = await claimed(world, job, shim=None)
    assert await world.node.reconcile() == 0
    assert (await world.attempt(job)).state == "ended"
    assert (await world.job(job)).state == "pending", "it is queued again, on no account of its own"
    assert world.engine.acknowledged == [attempt.id]


async def test_an_attempt_whose_shim_lives_is_adopted_and_followed(world):
    job = await world.submit()
    attempt = await claimed(world, job)
    world.engine.alive.add(attempt.id)
    assert await world.node.reconcile() == 1
    assert (await world.job(job)).state == "running"
    assert world.engine.pushed == [], "its job has no knobs that were turned"
    world.engine.end(attempt.id)
    await world.reached(job, "succeeded")


async def test_an_attempt_whose_shim_is_gone_is_over_when_the_engine_says_so(world):
    job = await world.submit()
    attempt = await claimed(world, job)
    assert await world.node.reconcile() == 0
    assert (await world.job(job)).state == "running", "its GPU stays leased while processes are left"
    world.engine.end(attempt.id, 3)
    await world.reached(job, "failed")


async def test_no_end_is_followed_by_a_start_before_scheduling_begins(world):
    first, second = [await world.submit(gpus=2) for _ in range(2)]
    attempt = await claimed(world, first, 0, 1)
    world.engine.end(attempt.id)
    await world.node.reconcile()
    await world.reached(first, "succeeded")
    assert (await world.job(second)).state == "pending"
    world.loops = world.node.schedule()
    await world.runs(second)


async def test_prepared_attempts_of_the_last_daemon_are_cleared_and_claimed_ones_kept(world):
    job = await world.submit()
    attempt = await claimed(world, job)
    world.engine.alive.add(attempt.id)
    await world.node.reconcile()
    assert world.engine.cleared == [{attempt.id}]


async def test_what_is_left_of_ended_attempts_is_killed_and_nothing_else(world):
    ended, lives = [await world.submit() for _ in range(2)]
    over = await claimed(world, ended)
    world.engine.end(over.id)
    await world.node.reconcile()
    await world.reached(ended, "succeeded")
    live = await claimed(world, lives, 1)
    world.engine.alive.add(live.id)
    world.engine.processes = {over.id[:15], live.id[:15], secrets.token_hex(16), over.id[:6]}
    await world.node.reconcile()
    assert world.engine.killed == [over.id]


async def successor_of(world, attempt, job, *, started_after=None):
    """Names a prepared attempt of `job` for the slot of `attempt`, as an earlier daemon did; it has started
    after the attempt `started_after`, if that is given."""
    prepared = Prepared(job=await world.job(job), attempt_id=secrets.token_hex(16), shim=SHIM)
    slots = [[gpu.uuid for gpu in attempt.gpus]]
    assert await world.store.write(successors.name, [(Successor(prepared=prepared), slots)], ())
    if started_after is not None:
        world.earlier += 1.0
        world.engine.earlier[prepared.attempt_id] = Taken(
            after=started_after, gpus=slots[0], claimed_at=world.earlier, claimed_boot=world.earlier
        )
    return prepared.attempt_id


async def test_a_successor_that_has_started_is_claimed_after_the_end_before_it(world):
    first, second = [await world.submit() for _ in range(2)]
    attempt = await claimed(world, first)
    after = await successor_of(world, attempt, second, started_after=attempt.id)
    world.engine.alive |= {attempt.id, after}
    world.engine.end(attempt.id)
    await world.node.settle()
    assert (await world.job(first)).state == "succeeded"
    claimed_late = await world.attempt(second)
    assert (claimed_late.id, claimed_late.state, claimed_late.shim) == (after, "running", SHIM)
    assert claimed_late.gpus == attempt.gpus
    assert await world.store.read(successors.named) == []
    assert await world.node.reconcile() == 1
    assert world.engine.killed == []


async def test_a_chain_that_has_started_is_claimed_in_its_order(world):
    ids = [await world.submit() for _ in range(4)]
    attempt = await claimed(world, ids[0])
    started = [attempt.id]
    for job in ids[1:]:
        started.append(await successor_of(world, attempt, job, started_after=started[-1]))
    for over in started[:-1]:
        world.engine.end(over)
    world.engine.alive.add(started[-1])
    await world.node.settle()
    assert [(await world.job(job)).state for job in ids] == ["succeeded"] * 3 + ["running"]
    found = [await world.attempt(job) for job in ids]
    assert [one.id for one in found] == started
    assert len({one.gpus[0].uuid for one in found}) == 1
    assert await world.store.read(successors.named) == []


async def test_a_successor_that_has_not_started_is_not_claimed(world):
    first, second = [await world.submit() for _ in range(2)]
    attempt = await claimed(world, first)
    await successor_of(world, attempt, second)
    await world.node.settle()
    assert (await world.job(first)).state == "running"
    assert (await world.job(second)).state == "pending"
    assert await world.store.read(successors.named) == []


async def test_a_successor_that_cannot_be_claimed_is_killed(world):
    first, second, third = [await world.submit() for _ in range(3)]
    attempt = await claimed(world, first)
    after = await successor_of(world, attempt, second, started_after="an unknown one")
    world.engine.end(attempt.id)
    await world.node.settle()
    assert world.engine.killed == [after], "its GPU has another holder"
    assert (await world.job(first)).state == "running"
    assert (await world.job(second)).state == "pending"
    assert await world.store.read(successors.named) == []
    assert third
