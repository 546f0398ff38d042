"""An attempt from its claim to its end."""

import contextlib
import errno
import sqlite3

from leptond.engines.base import SpawnFailed
from leptond.scheduling import supervisor as supervisor_module
from leptond.store import StoreUnavailable
from tests.support.node import node_world


def on_disk(state_dir, attempt_id):
    """What another process would see of an attempt now: its state and its shim."""
    with contextlib.closing(sqlite3.connect(state_dir / "leptond.db")) as db:
        return db.execute("SELECT state, shim_pid FROM attempts WHERE id = ?", (attempt_id,)).fetchone()


async def test_the_gate_opens_only_when_the_shim_is_on_disk(tmp_path):
    async with node_world(tmp_path, places=0) as world:
        seen = []
        world.engine.on_go = lambda attempt_id: seen.append(on_disk(tmp_path, attempt_id))
        job = await world.submit()
        attempt = await world.runs(job)
        assert seen == [("running", attempt.shim.pid)]
        assert [gpu.index for gpu in world.engine.released[attempt.id].gpus] == [0]
        await world.until(lambda: on_disk(tmp_path, attempt.id) is not None)


async def test_a_job_that_is_cancelled_on_its_way_to_the_gate_never_starts(tmp_path):
    async with node_world(tmp_path, places=0) as world:
        world.engine.hold_back(True)
        job = await world.submit()
        await world.reached(job, "starting")
        await world.cancel(job)
        world.engine.hold_back(False)
        await world.reached(job, "cancelled")
        attempt = await world.attempt(job)
        assert world.engine.abandoned == [attempt.id]
        assert world.engine.released == {}


async def test_an_attempt_that_cannot_be_prepared_ends_as_the_machines_fault(tmp_path):
    async with node_world(tmp_path, places=0) as world:
        world.engine.spawn_error = SpawnFailed("too many processes", errno.EAGAIN)
        job = await world.submit()
        await world.until(lambda: world.engine.acknowledged, "its end")
        world.engine.spawn_error = None
        attempt = await world.attempt(job, 1)
        assert attempt.state == "ended"
        assert str(attempt.class_).startswith("infra")
        assert attempt.id not in world.engine.released


async def test_a_stop_is_delivered_once_and_again_only_with_less_grace(tmp_path):
    async with node_world(tmp_path) as world:
        job = await world.submit()
        attempt = await world.runs(job)
        for grace_s in (5.0, 5.0, 9.0, 2.0, 2.0):
            world.node.supervisor.stop(attempt.id, attempt, "cancel", grace_s)
        world.node.supervisor.stop(attempt.id, attempt, "timeout", 0.0)
        assert [grace_s for _, _, grace_s in world.engine.stops] == [5.0, 2.0]


async def test_a_full_disk_delays_the_record_of_an_end_and_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor_module, "RETRY_S", 0.001)
    full = False
    refused = []

    class Full:
        """The store of a disk that is full now and then."""

        def __init__(self, store):
            self._store = store

        def __getattr__(self, name):
            if name not in ("write", "write_planned") or not full:
                return getattr(self._store, name)

            async def refuse(*args, **more):
                refused.append(args)
                raise StoreUnavailable("disk is full")

            return refuse

    async with node_world(tmp_path, places=0, store_as=Full) as world:
        first, second = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.until(lambda: on_disk(tmp_path, attempt.id)[0] == "running")
        full = True
        world.engine.end(attempt.id)
        await world.until(lambda: len(refused) > 2, "refused writes")
        assert world.engine.acknowledged == []
        assert on_disk(tmp_path, attempt.id)[0] == "running"
        full = False
        await world.reached(first, "succeeded")
        await world.runs(second)


async def test_a_successor_that_cannot_be_claimed_ends_the_daemon(tmp_path):
    """Its process must not live on, nor anything start beside it: the next start sees to it."""
    async with node_world(tmp_path) as world:
        first, second = [await world.submit() for _ in range(2)]
        attempt = await world.runs(first)
        await world.has_successor(attempt.id)

        def held_meanwhile(attempt_id):
            with contextlib.closing(sqlite3.connect(tmp_path / "leptond.db")) as db:
                db.execute("DELETE FROM successors WHERE job_id = ?", (second,))
                db.commit()

        world.engine.on_go = held_meanwhile
        world.engine.end(attempt.id)
        await world.until(world.store.broken.done, "the end of the daemon")
        assert "out of turn" in str(world.store.broken.result())
        assert (await world.job(first)).state == "running", "nothing of the transaction stays"


async def test_a_fault_in_following_one_attempt_leaves_the_others_alone(tmp_path):
    async with node_world(tmp_path, gpus=2) as world:
        first, second = [await world.submit() for _ in range(2)]
        one, other = await world.runs(first), await world.runs(second)
        world.engine._end_of(one.id).set_exception(RuntimeError("a bug"))
        world.engine.end(other.id)
        await world.reached(second, "succeeded")
        assert (await world.job(first)).state == "running", "its GPU stays leased"
        assert (await world.attempt(first)).gpus == one.gpus


async def test_a_job_shows_as_stopping_once_its_limit_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor_module, "OVERRUN_SLACK_S", 0.0)
    async with node_world(tmp_path) as world:
        job = await world.submit(time_limit_s=1.0)
        await world.runs(job)
        await world.reached(job, "stopping")
        assert world.engine.stops == [], "the shim keeps the limit itself"
