"""Reports in the store: the newest state, a bounded curve, few events; and old databases."""

import sqlite3

import msgspec
import pytest

from leptond.base.paths import data_dir
from leptond.core.jobs.model import Knob
from leptond.core.training.progress import CURVE_POINTS, Checkpoint, ProgressMessage, new_batch
from leptond.store import open_store
from leptond.store.database import events
from leptond.store.database.migrate import available, migrate
from leptond.store.queue import attempts
from leptond.store.training import progress
from tests.support.queue import SHIM, claim, finish, store, submit

__all__ = ["store"]


@pytest.fixture
async def running(store):
    job = await submit(store)
    claimed = await claim(store, job)
    await store.write(attempts.started, claimed.attempt.id, shim=SHIM, now=2.0, deadline_at=None)
    return claimed


async def told(store, attempt_id, now, **values):
    one = ProgressMessage(v=1, attempt=attempt_id, at=values.pop("at", now), **values)
    await store.write(progress.record, [new_batch(one)], now=now)


async def test_the_state_of_a_training_is_kept(store, running):
    one = running.attempt.id
    await told(
        store, one, 10.0, step=5, total=9, first_at=8.0, first_step=4, metrics={"loss": 2.0, "lr": 1.0}
    )
    await told(store, one, 11.0, step=6, metrics={"loss": None}, checkpoint=Checkpoint(step=6, at=10.5))
    await told(store, one, 12.0, knobs={"lr": Knob(value=1.0, low=0.0, high=2.0)}, tuned=1)
    now = await store.read(attempts.get, one)
    assert (now.first_progress_at, now.first_step, now.progress_at) == (8.0, 4, 12.0)
    assert (now.step, now.total_steps, now.checkpoint_step, now.checkpoint_at) == (6, 9, 6, 10.5)
    assert now.metrics == {"loss": None, "lr": 1.0}
    assert now.knobs["lr"].high == 2.0
    assert now.applied_version == 1
    kinds = [e.type for e in await store.read(events.after, 0, limit=100, job=running.job.id)]
    assert kinds.count("job.progress") == 1
    assert kinds.count("job.tuned") == 1


async def test_times_that_cannot_be_are_not_believed(store, running):
    await told(store, running.attempt.id, 10.0, at=1e12, step=1, first_at=-5.0)
    now = await store.read(attempts.get, running.attempt.id)
    assert (now.first_progress_at, now.progress_at) == (2.0, 10.0)


async def test_last_words_count_and_strangers_do_not(store, running):
    await finish(store, running.attempt.id, 0)
    await told(store, running.attempt.id, 10.0, step=7)
    await told(store, "f" * 32, 10.0, step=7)
    assert (await store.read(attempts.get, running.attempt.id)).step == 7


async def test_a_curve_of_any_length_is_bounded(store, running):
    one, length = running.attempt.id, 3 * CURVE_POINTS
    batch = new_batch(ProgressMessage(v=1, attempt=one, at=3.0, step=0, metrics={"loss": 0.0}))
    for step in range(1, length):
        batch.add(ProgressMessage(v=1, attempt=one, at=3.0 + step, step=step, metrics={"loss": float(step)}))
    await store.write(progress.record, [batch], now=1e6)
    curve = await store.read(progress.curve, running.job.id)
    assert (curve.seen, curve.stride) == (length, 4)
    assert [point.step for point in curve.points] == list(range(0, length, 4))
    assert all(point.values == {"loss": float(point.step)} for point in curve.points)


async def test_a_database_of_the_first_release_keeps_its_jobs(tmp_path):
    first = tmp_path / "first"
    first.mkdir()
    file = available(data_dir("migrations"))[0][1]
    (first / file.name).write_text(file.read_text())
    db = sqlite3.connect(tmp_path / "leptond.db", isolation_level=None)
    migrate(db, first)
    db.execute(
        "INSERT INTO jobs (spec, name, user, gpus, submitted_at) VALUES ('{\"argv\":[\"x\"]}','n','u',0,1)"
    )
    db.execute(
        "INSERT INTO attempts (id, job_id, number, state, n_gpus, claimed_at, claimed_boot, boot_id)"
        " VALUES ('a', 1, 1, 'starting', 0, 1.0, 1.0, 'boot')"
    )
    db.close()
    async with open_store(tmp_path / "leptond.db") as store:
        old = await store.read(attempts.get, "a")
    assert (old.step, old.progress_at, old.metrics, old.knobs) == (None, None, {}, {})
    assert msgspec.structs.asdict(old)["job_id"] == 1
