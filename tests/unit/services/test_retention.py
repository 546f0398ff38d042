"""What has been kept long enough goes, in slices; what is still needed stays; no link is followed."""

import sqlite3
from functools import partial

import pytest
from msgspec.structs import replace

from leptond.base.clock import SystemClock
from leptond.base.errors import WrongState
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import ExitRecord, JobSpec
from leptond.core.outcome.classify import classify
from leptond.core.outcome.evidence import Evidence
from leptond.core.retention_limits import UNLIMITED
from leptond.services.retention import Retention, remove_output, remove_tree
from leptond.store.queue import attempts, jobs, retention
from leptond.store.recovery import adoption
from tests.support.queue import claim
from tests.support.store import open_new_store

DAY = 86400.0
only = partial(replace, UNLIMITED)


class Clock(SystemClock):
    def wall(self):
        return 100 * DAY


@pytest.fixture
async def store(tmp_path):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "checkpoints").mkdir()
    async with open_new_store(tmp_path / "leptond.db") as one:
        yield one


async def submit(store, **spec):
    one = admit(JobSpec(argv=["true"], **spec), gpus=0, home="/", defaults=Defaults())
    stored, _ = await store.write(jobs.submit, [one], user="ana", now=1.0, max_pending=1000)
    return stored[0].ids


async def ended(store, day, *, root=None, log_bytes=100, **spec):
    """A job that ended on that day, with the files of its one attempt."""
    (job,) = await submit(store, **spec)
    found = await claim(store, job)
    record = ExitRecord(
        attempt_id=found.attempt.id, boot_id="boot", exit_code=0, ended_at=day * DAY, log_bytes=log_bytes
    )
    await store.write(
        attempts.finish,
        found.attempt.id,
        verdict=classify(Evidence(exit_code=0)),
        record=record,
        now=day * DAY,
        boot=2.0,
        boot_id="boot",
        roll=0.0,
    )
    directory = store.path.parent / "jobs" / str(job) / "1"
    directory.mkdir(parents=True)
    (directory / "output.log").write_bytes(b"x" * log_bytes)
    (directory / "exit.json").write_text("{}")
    (store.path.parent / "checkpoints" / str(job)).mkdir()
    (store.path.parent / "checkpoints" / str(job) / "model").write_bytes(b"m" * 10)
    return job


def there(store):
    return {int(path.name) for path in (store.path.parent / "jobs").iterdir()}


async def rows(store):
    return {row[0] for row in await store.read(lambda db: db.execute("SELECT id FROM jobs").fetchall())}


async def test_old_jobs_go_and_a_dry_run_says_so_first(store):
    old = [await ended(store, day) for day in (1, 2, 3)]
    young = await ended(store, 99)
    (waits,) = await submit(store, hold=True)
    keep = only(job_age_s=30 * DAY)
    one = Retention(store, Clock())
    would = await one.plan(keep, checkpoints=False)
    assert (list(would.jobs), would.bytes) == (old, 3 * 102)
    assert await rows(store) == {*old, young, waits}, "a dry run changes nothing"
    done = await one.purge(keep, checkpoints=False, by="ana")
    assert (list(done.jobs), done.bytes) == (list(would.jobs), would.bytes)
    assert await rows(store) == {young, waits}
    assert there(store) == {young}
    assert len(list((store.path.parent / "checkpoints").iterdir())) == 4, "checkpoints stay unless asked for"
    assert (await one.purge(keep, checkpoints=False, by="ana")).jobs == []
    purged = await store.read(
        lambda db: [row[0] for row in db.execute("SELECT job_id FROM events WHERE type = 'job.purged'")]
    )
    assert purged == old


async def test_what_an_unfinished_job_needs_stays(store):
    base, other = await ended(store, 1), await ended(store, 1)
    await submit(store, after=[str(base)], hold=True)
    copy = (await store.write(jobs.retry, str(other), user="ana", now=2.0, max_pending=100))[0].ids[0]
    array = await submit(store, array="0-1")
    found = await claim(store, array[0])
    await store.write(
        attempts.finish,
        found.attempt.id,
        verdict=classify(Evidence(exit_code=0)),
        record=ExitRecord(attempt_id=found.attempt.id, boot_id="boot", exit_code=0),
        now=DAY,
        boot=2.0,
        boot_id="boot",
        roll=0.0,
    )
    one = Retention(store, Clock())
    done = await one.purge(only(job_age_s=DAY, max_jobs=1), checkpoints=True, by="ana")
    assert list(done.jobs) == []
    for ref in (base, other):
        with pytest.raises(WrongState, match="still needed"):
            await store.write(jobs.purge, str(ref), by="ana", now=1.0)
    await store.write(jobs.cancel, str(copy), by="ana", grace_s=None, reason=None, now=100 * DAY)
    done = await one.purge(only(job_age_s=DAY), checkpoints=True, by="ana")
    assert list(done.jobs) == [other]
    kept = {path.name for path in (store.path.parent / "checkpoints").iterdir()}
    assert str(other) in kept, "its copy, which has just ended, still names them"


async def test_the_oldest_beyond_a_number_go(store):
    jobs_ = [await ended(store, day) for day in (5, 1, 9, 3)]
    await Retention(store, Clock()).purge(only(max_jobs=2), checkpoints=True, by="ana")
    assert await rows(store) == {jobs_[0], jobs_[2]}
    kept = {int(path.name) for path in (store.path.parent / "checkpoints").iterdir()}
    assert kept == {jobs_[0], jobs_[2]}


async def test_outputs_go_before_their_jobs_by_age_and_by_size(store):
    a, b, c = [await ended(store, day, log_bytes=1000) for day in (1, 98, 99)]
    one = Retention(store, Clock())
    done = await one.purge(only(log_age_s=30 * DAY), checkpoints=False, by="ana")
    assert (done.outputs, done.bytes) == (1, 1000)
    place = store.path.parent / "jobs"
    assert not (place / str(a) / "1" / "output.log").exists()
    assert (place / str(a) / "1" / "exit.json").exists(), "its records stay"
    done = await one.purge(only(log_total_bytes=1500), checkpoints=False, by="ana")
    assert done.outputs == 1
    assert not (place / str(b) / "1" / "output.log").exists()
    assert (place / str(c) / "1" / "output.log").exists()
    assert await rows(store) == {a, b, c}


async def test_old_events_go_and_their_numbers_are_not_used_again(store):
    await ended(store, 1)
    last = await store.read(lambda db: db.execute("SELECT max(id) FROM events").fetchone()[0])
    done = await Retention(store, Clock()).purge(only(event_age_s=30 * DAY), checkpoints=False, by="ana")
    assert done.events == last
    await submit(store)
    assert await store.read(lambda db: db.execute("SELECT min(id) FROM events").fetchone()[0]) == last + 1


async def test_a_crash_between_rows_and_files_leaves_nothing_for_ever(store):
    gone, stays = await ended(store, 1), await ended(store, 1)
    await store.write(retention.forget, [gone], by="ana", now=1.0)
    unknown = await store.read(adoption.highest_id) + 5
    (store.path.parent / "jobs" / str(unknown) / "1").mkdir(parents=True)
    (store.path.parent / "jobs" / ".probe").mkdir()
    assert await Retention(store, Clock()).leftovers() == [gone]
    assert (store.path.parent / "jobs" / str(unknown)).exists(), "a number that was never given out here"
    assert (store.path.parent / "jobs" / str(stays)).exists()


def test_no_link_is_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "output.log").write_text("mine")
    jobs_dir = tmp_path / "jobs"
    (jobs_dir / "2" / "1").mkdir(parents=True)
    (jobs_dir / "1").symlink_to(precious)
    (jobs_dir / "2" / "1" / "link").symlink_to(precious)
    (jobs_dir / "2" / "1" / "data").write_text("12345")
    assert remove_tree(jobs_dir, "1") == 0
    assert remove_output(jobs_dir / "1") == 0
    assert remove_tree(jobs_dir, "2") == 5, "a link counts nothing"
    assert not (jobs_dir / "2").exists()
    assert remove_tree(jobs_dir, "3") == 0
    assert (precious / "output.log").read_text() == "mine"


async def test_a_slice_is_small_and_submits_go_on(store):
    for _ in range(3):
        await ended(store, 1)

    def many(db: sqlite3.Connection):
        for job_id in range(10, 110):
            db.execute(
                "INSERT INTO jobs (id, spec, name, user, gpus, submitted_at) SELECT ?, spec, name, user, 0, 1"
                " FROM jobs WHERE id = 1",
                (job_id,),
            )
            db.execute("UPDATE jobs SET state = 'cancelled', ended_at = 1 WHERE id = ?", (job_id,))

    await store.write(many)
    before = store.commits
    done = await Retention(store, Clock()).purge(only(job_age_s=DAY), checkpoints=False, by="ana")
    assert len(done.jobs) == 103
    assert store.commits - before >= 103 / retention.SLICE
