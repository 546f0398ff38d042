"""The hand-over: a certain successor goes before the end is recorded, all others with it or after it."""

import contextlib
import sqlite3

import pytest
from msgspec.structs import replace

from leptond.base.clock import kernel_boot_id
from leptond.core.jobs.model import ExitRecord
from leptond.core.outcome.evidence import End
from leptond.store.planning import successors
from leptond.store.planning.successors import OutOfStep
from leptond.store.queue import jobs
from tests.support.node import node_world


def well(attempt):
    record = ExitRecord(attempt_id=attempt.id, boot_id=kernel_boot_id(), exit_code=0, run_s=1.0)
    return End(record=record)


def states_after_commits(world, state_dir, *ids):
    """The states of these jobs, now and whenever a commit has changed them, as another process sees them."""

    def states():
        with contextlib.closing(sqlite3.connect(state_dir / "leptond.db")) as db:
            rows = [db.execute("SELECT state FROM jobs WHERE id = ?", (job,)).fetchone() for job in ids]
        return tuple(row[0] for row in rows)

    found = [states()]
    world.store.on_commit(lambda: found.append(now) if (now := states()) != found[-1] else None)
    return found


async def test_a_certain_successor_goes_before_the_end_is_recorded_and_is_claimed_with_it(tmp_path):
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        before = await world.runs(first)
        await world.has_successor(before.id)
        (prepared,) = [one for one in world.engine.gates if world.engine.gates[one] == second]
        named = await world.store.read(successors.named)
        assert [(one.after, one.attempt_id) for one in named] == [([before.id], prepared)]
        commits = []
        world.engine.on_go = lambda attempt_id: commits.append((attempt_id, world.store.commits))
        recorded = world.store.commits
        states = states_after_commits(world, tmp_path, first, second)
        world.engine.end(before.id)
        after = await world.runs(second)
        assert commits == [(prepared, recorded)], "its gate was opened before the commit of the end"
        assert after.id == prepared
        assert [gpu.uuid for gpu in after.gpus] == [gpu.uuid for gpu in before.gpus]
        assert world.engine.released[prepared].gpus == before.gpus
        assert (await world.job(first)).state == "succeeded"
        assert states == [("running", "pending"), ("succeeded", "running")], "one transaction"
        assert world.engine.acknowledged == [before.id]


async def test_an_end_that_has_to_be_judged_hands_over_in_its_own_commit(tmp_path):
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        before = await world.runs(first)
        await world.has_successor(before.id)
        recorded = world.store.commits
        commits = []
        world.engine.on_go = lambda attempt_id: commits.append(world.store.commits)
        states = states_after_commits(world, tmp_path, first, second)
        world.engine.end(before.id, 1)
        await world.runs(second)
        assert commits == [recorded + 1], "its gate was opened after the commit of the end"
        assert (await world.job(first)).state == "failed"
        assert states == [("running", "pending"), ("failed", "running")], "one transaction"


@pytest.mark.parametrize(
    "changed",
    [
        {"version": -1},
        {"version": None},
        {"valid_until": 0.0},
        {"unhealthy": {"GPU-x": "lost"}},
        {"successors": {}},
    ],
)
async def test_no_successor_goes_by_an_outlook_that_does_not_hold(tmp_path, changed):
    async with node_world(tmp_path) as world:
        first, _ = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)
        handover = world.node.handover
        outlook = handover.outlook
        handover.take(replace(outlook, **changed))
        batch = handover.at_end(attempt, well(attempt))
        assert not batch.released
        batch.done(None)
        assert list(world.engine.released) == [attempt.id]
        handover.take(outlook)
        batch = handover.at_end(attempt, well(attempt))
        assert batch.released, "the same by the outlook that holds"
        batch.done(None)
        assert len(world.engine.released) == 2


async def test_a_successor_that_was_lost_at_its_gate_does_not_go(tmp_path):
    async with node_world(tmp_path) as world:
        first, _ = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)
        world.engine.gates.clear()
        batch = world.node.handover.at_end(attempt, well(attempt))
        assert not batch.released
        batch.done(None)
        assert list(world.engine.released) == [attempt.id]


async def test_nothing_is_claimed_before_the_hand_over_is_open_or_while_starts_are_blocked(tmp_path):
    room = True
    async with node_world(tmp_path, begin=False, has_space=lambda: room) as world:
        first, _ = [await world.submit() for _ in range(2)]
        handover = world.node.handover
        await world.begin()
        attempt = await world.runs(first)
        room = False
        assert handover.at_end(attempt, well(attempt)) is None, "there is no room on the disk"
        room = True
        batch = handover.at_end(attempt, well(attempt))
        assert batch is not None
        batch.done(None)
    async with node_world(tmp_path, begin=False) as again:
        assert again.node.handover.at_end(attempt, well(attempt)) is None, "nothing is reconciled yet"


async def test_a_claim_that_the_database_does_not_allow_is_out_of_step(tmp_path):
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)
        batch = world.node.handover.at_end(attempt, well(attempt))
        assert batch.released
        await world.store.write(lambda db: db.execute("UPDATE jobs SET held = 1 WHERE id = ?", (second,)))
        with pytest.raises(OutOfStep, match=f"job {second}"):
            await world.store.write(batch.claim)
        batch.done(None)


async def test_no_prepared_attempt_is_discarded_while_a_transaction_may_claim_it(tmp_path):
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)
        batch = world.node.handover.at_end(attempt, End(record=None))
        (prepared,) = batch.context.prepared.values()
        passes = world.passes()
        await world.cancel(second)
        await world.until(lambda: world.passes() > passes, "a pass")
        assert world.engine.discarded == []
        batch.done(None)
        await world.submit()
        await world.until(lambda: prepared.attempt_id in world.engine.discarded, "its end")


async def test_a_chain_of_short_jobs_names_each_successor_in_the_commit_of_the_hand_over(tmp_path):
    async with node_world(tmp_path, places=8) as world:
        ids = [await world.submit() for _ in range(6)]
        attempt = await world.runs(ids[0])
        await world.until(lambda: len(world.engine.gates) == 6, "all are prepared")
        await world.has_successor(attempt.id)
        released = []
        world.engine.on_go = released.append
        for following in ids[1:]:
            world.engine.end(attempt.id)
            attempt = await world.runs(following)
            assert released[-1] == attempt.id
            if following != ids[-1]:
                assert world.node.handover.outlook.successors[attempt.id].prepared.job.id == following + 1


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


async def test_an_edit_of_the_successor_makes_it_start_as_it_is_now(tmp_path):
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)
        (stale,) = [one for one in world.engine.gates if world.engine.gates[one] == second]
        now = world.node.clock.wall()
        await world.store.write(
            jobs.edit, str(second), {"time_limit_s": 77.0}, by="ana", if_version=None, now=now
        )
        world.engine.end(attempt.id)
        after = await world.runs(second)
        assert after.id != stale
        assert stale not in world.engine.released
        await world.until(lambda: stale in world.engine.discarded, "the end of what was prepared before")
