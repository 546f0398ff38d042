"""The hand-over: what waits for a slot starts without the daemon and is booked with the end before it; all
else is claimed with that end or after it."""

import asyncio
import contextlib
import sqlite3

import pytest

from leptond.store import StoreUnavailable
from leptond.store.planning import successors
from leptond.store.queue import gpus, jobs
from tests.support.node import node_world


def states_after_commits(world, state_dir, *ids):
    """The states of these jobs, now and whenever a commit has changed them, as another process sees them."""

    def states():
        with contextlib.closing(sqlite3.connect(state_dir / "leptond.db")) as db:
            rows = [db.execute("SELECT state FROM jobs WHERE id = ?", (job,)).fetchone() for job in ids]
        return tuple(row[0] for row in rows)

    found = [states()]
    world.store.on_commit(lambda: found.append(now) if (now := states()) != found[-1] else None)
    return found


async def test_a_successor_starts_before_the_end_is_recorded_and_is_claimed_with_it(tmp_path):
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        before = await world.runs(first)
        await world.has_successor(before.id)
        (prepared,) = [one for one in world.engine.gates if world.engine.gates[one] == second]
        named = await world.store.read(successors.named)
        assert [(one.job_id, one.attempt_id) for one in named] == [(second, prepared)]
        commits = []
        world.engine.on_go = lambda attempt_id: commits.append((attempt_id, world.store.commits))
        recorded = world.store.commits
        states = states_after_commits(world, tmp_path, first, second)
        world.engine.end(before.id)
        after = await world.runs(second)
        assert commits == [(prepared, recorded)], "it started before the commit of the end"
        assert after.id == prepared
        assert [gpu.uuid for gpu in after.gpus] == [gpu.uuid for gpu in before.gpus]
        assert after.claimed_at == pytest.approx(world.engine.released[prepared].claimed_at, abs=0.1)
        assert (await world.job(first)).state == "succeeded"
        assert states == [("running", "pending"), ("succeeded", "running")], "one transaction"
        assert world.engine.acknowledged == [before.id]
        assert await world.store.read(successors.named) == []


async def test_an_end_that_has_to_be_judged_hands_over_in_its_own_commit(tmp_path):
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        before = await world.runs(first)
        await world.has_successor(before.id)
        states = states_after_commits(world, tmp_path, first, second)
        recorded = world.store.commits
        commits = []
        world.engine.on_go = lambda attempt_id: commits.append(world.store.commits)
        world.engine.end(before.id, 1)
        await world.runs(second)
        assert len(world.engine.withdrawn) == 1, "what waited has left first"
        assert commits == [recorded + 1], "its gate was opened after the commit of the end"
        assert (await world.job(first)).state == "failed"
        assert states == [("running", "pending"), ("failed", "running")], "one transaction"


async def test_nothing_else_is_done_with_a_slot_before_what_waits_for_it_has_answered(tmp_path):
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        before = await world.runs(first)
        await world.has_successor(before.id)
        world.engine.answers.clear()
        world.engine.end(before.id, 1)
        await world.until(lambda: world.engine.withdrawn, "the withdrawal")
        for _ in range(20):
            await world.tick()
        assert (await world.job(first)).state == "running", "the end waits for the answer"
        assert list(world.engine.released) == [before.id]
        world.engine.answers.set()
        await world.runs(second)


@pytest.mark.parametrize("verb", ["cancel", "hold", "edit"])
async def test_a_change_of_a_job_that_may_start_takes_it_back_first(tmp_path, verb):
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)
        (prepared,) = [one for one in world.engine.gates if world.engine.gates[one] == second]
        now = world.node.clock.wall()
        if verb == "cancel":
            await world.cancel(second)
        elif verb == "hold":
            await world.store.write(jobs.hold, str(second), by="ana", now=now)
        else:
            changes = {"time_limit_s": 77.0}
            await world.store.write(jobs.edit, str(second), changes, by="ana", if_version=None, now=now)
        assert world.engine.withdrawn[:1] == [prepared]
        world.engine.end(attempt.id)
        await world.reached(first, "succeeded")
        assert prepared not in world.engine.released, "it was prepared as it was before"
        if verb == "edit":
            assert (await world.runs(second)).id != prepared
        else:
            assert (await world.job(second)).state == {"cancel": "cancelled", "hold": "pending"}[verb]
        await world.until(lambda: prepared in world.engine.discarded, "the end of what was prepared before")


async def test_a_cancel_of_a_job_that_has_just_started_stops_it(tmp_path):
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)
        world.engine.answers.clear()
        world.engine.end(attempt.id)
        cancel = asyncio.ensure_future(world.cancel(second))
        for _ in range(20):
            await world.tick()
        assert not cancel.done(), "it is not known whether it runs"
        world.engine.answers.set()
        await cancel
        after = await world.reached(second, "stopping")
        assert after.attempt == 1
        await world.until(lambda: world.engine.stops, "the stop")


async def test_a_drain_takes_back_what_may_start_on_the_gpu(tmp_path):
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)
        await world.store.write(gpus.set_drained, 0, "a fan", "ana", world.node.clock.wall())
        assert len(world.engine.withdrawn) == 1
        world.engine.end(attempt.id)
        await world.reached(first, "succeeded")
        for _ in range(20):
            await world.tick()
        assert (await world.job(second)).state == "pending"


async def test_a_better_job_takes_the_place_of_one_that_waits_for_the_slot(tmp_path):
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)
        better = await world.submit(priority=10)
        await world.until(
            lambda: any(
                world.engine.gates.get(one) == better
                for some in world.engine.offered.values()
                for one in some
            ),
            "the better one",
        )
        world.engine.end(attempt.id)
        await world.runs(better)
        assert (await world.job(second)).state == "pending"


async def test_a_change_waits_no_longer_than_its_limit_for_the_booking_of_a_start(tmp_path, monkeypatch):
    monkeypatch.setattr("leptond.scheduling.successions.BOOK_S", 0.05)
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)
        # it has started, and the end before it does not come
        name = world.engine.holders[attempt.id]
        world.engine.take(name, attempt.id)
        await world.until(lambda: not world.engine.offered.get(name), "the start")
        with pytest.raises(StoreUnavailable, match="try again"):
            await world.cancel(second)
        world.engine.end(attempt.id)
        await world.runs(second)
        await world.cancel(second)


async def test_a_chain_of_starts_is_booked_in_its_order(tmp_path):
    async with node_world(tmp_path, places=8) as world:
        ids = [await world.submit() for _ in range(5)]
        attempt = await world.runs(ids[0])
        for following in ids[1:]:
            await world.has_successor(attempt.id)
            world.engine.end(attempt.id)
            attempt = await world.runs(following)
        world.engine.end(attempt.id)
        await world.reached(ids[-1], "succeeded")
        assert len(world.engine.released) == 5


async def test_two_slots_have_one_line_and_the_older_job_starts_first(tmp_path):
    async with node_world(tmp_path, gpus=2) as world:
        ids = [await world.submit() for _ in range(4)]
        one, other = [await world.runs(job) for job in ids[:2]]
        await world.has_successor(one.id)
        await world.has_successor(other.id)
        assert world.engine.holders[one.id] == world.engine.holders[other.id]
        world.engine.end(other.id)
        third = await world.runs(ids[2])
        assert third.gpus == other.gpus
        assert (await world.job(ids[3])).state == "pending"


async def test_jobs_without_gpus_hand_their_slots_on(tmp_path):
    async with node_world(tmp_path, cpu_slots=1) as world:
        first, second = [await world.submit(gpus=0) for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)
        world.engine.end(attempt.id)
        await world.runs(second)


async def test_nothing_is_given_out_while_starts_are_blocked(tmp_path):
    room = True
    async with node_world(tmp_path, has_space=lambda: room) as world:
        first, second = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)
        room = False
        world.node.wakeup.changed()
        await world.until(lambda: world.engine.withdrawn, "the withdrawal")
        world.engine.end(attempt.id)
        await world.reached(first, "succeeded")
        assert (await world.job(second)).state == "pending"
        room = True
        world.node.wakeup.changed()
        await world.runs(second)


async def test_the_end_of_the_daemon_takes_everything_back(tmp_path):
    async with node_world(tmp_path) as world:
        first, _ = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)
        for task in world.loops:
            task.cancel()
        await world.node.stop_scheduling()
        assert len(world.engine.withdrawn) == 1
        assert await world.store.read(successors.named) == []


async def test_a_part_of_the_transaction_that_fails_is_left_to_the_next_pass(tmp_path, monkeypatch):
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)

        def fails(*args, **more):
            raise sqlite3.IntegrityError("no")

        monkeypatch.setattr("leptond.store.planning.snapshot.decide", fails)
        world.engine.end(attempt.id, 1)
        await world.reached(first, "failed")
        await world.runs(second)


async def test_while_an_end_is_recorded_and_after_it_no_outlook_from_before_holds(tmp_path):
    async with node_world(tmp_path) as world:
        first, _ = [await world.submit() for _ in range(2)]
        before = await world.runs(first)
        await world.has_successor(before.id)
        handover = world.node.handover
        with handover.freeing():
            # a pass that has read the queue before the commit gives out what it saw
            await handover.follow(handover._outlook, handover.moment(), handover.freed)
            assert handover.successions.are_given
            assert not handover.is_at_rest(), "the commit wakes the scheduler before the block is over"
        assert not handover.is_at_rest()
        await handover.follow(handover._outlook, handover.moment(), handover.freed)
        assert handover.is_at_rest()
