"""A database is checked against the directory that it lies in before anything is opened for writing."""

import json
import sqlite3

import pytest

from leptond.base.clock import SystemClock
from leptond.base.errors import StartRefused
from leptond.recovery.copied_state import place_of
from leptond.recovery.mark import MARK, Mark, read_mark, write_mark
from leptond.recovery.rebuild import recover
from leptond.recovery.restored_database import catch_up, guard
from leptond.store import DATABASE, open_store


async def lineage(state_dir):
    async with open_store(state_dir / DATABASE) as store:
        return store.lineage


def attempt_directory(state_dir, job, number):
    """An attempt that was claimed and has left no record."""
    directory = state_dir / "jobs" / str(job) / str(number)
    directory.mkdir(parents=True)
    return directory


def test_a_mark_survives_and_a_torn_one_is_none(tmp_path):
    assert read_mark(tmp_path) is None
    write_mark(tmp_path, Mark(lineage="abc", starts=3))
    assert read_mark(tmp_path) == Mark(lineage="abc", starts=3)
    assert json.loads((tmp_path / MARK).read_text()) == {"lineage": "abc", "starts": 3}
    (tmp_path / MARK).write_text('{"lineage": "a')
    assert read_mark(tmp_path) is None


def test_an_empty_directory_may_begin_a_queue(tmp_path):
    guard(tmp_path)


@pytest.mark.parametrize("left", ["mark", "jobs", "empty"])
def test_a_database_that_is_gone_is_refused(tmp_path, left):
    if left == "jobs":
        attempt_directory(tmp_path, 1, 1)
    else:
        write_mark(tmp_path, Mark(lineage="abc", starts=3))
    if left == "empty":
        (tmp_path / DATABASE).touch()
    with pytest.raises(StartRefused, match="leptond recover") as refused:
        guard(tmp_path)
    assert refused.value.exit_code == 78


async def test_another_database_is_refused_only_where_there_are_jobs(tmp_path):
    own = await lineage(tmp_path)
    write_mark(tmp_path, Mark(lineage=own, starts=1))
    guard(tmp_path)
    write_mark(tmp_path, Mark(lineage="other", starts=1))
    guard(tmp_path)
    attempt_directory(tmp_path, 1, 1)
    with pytest.raises(StartRefused, match="is not the database of the jobs") as refused:
        guard(tmp_path)
    assert refused.value.exit_code == 78


async def test_every_start_is_counted_in_the_database_and_beside_it(tmp_path):
    async with open_store(tmp_path / DATABASE) as store:
        for number in (1, 2):
            caught = await catch_up(store, SystemClock())
            assert not caught.restored
            assert caught.jobs == {}
            here = place_of(tmp_path)
            assert read_mark(tmp_path) == Mark(lineage=store.lineage, starts=number, place=here)


async def test_a_copy_that_was_put_back_is_known_by_its_starts(tmp_path):
    async with open_store(tmp_path / DATABASE) as store:
        await catch_up(store, SystemClock())
        write_mark(tmp_path, Mark(lineage=store.lineage, starts=5))
        assert (await catch_up(store, SystemClock())).restored
        assert read_mark(tmp_path).starts == 6
        assert not (await catch_up(store, SystemClock())).restored


async def test_an_attempt_that_the_database_does_not_know_is_taken_in(tmp_path):
    attempt_directory(tmp_path, 7, 1)
    async with open_store(tmp_path / DATABASE) as store:
        caught = await catch_up(store, SystemClock())
        assert caught.restored
        assert caught.jobs == {7: [1]}
    with sqlite3.connect(tmp_path / DATABASE) as db:
        assert db.execute("SELECT attempt FROM jobs WHERE id = 7").fetchone() == (1,)


async def test_a_database_that_has_lost_its_name_with_its_log_is_one_to_recover(tmp_path):
    """What a start refuses, a recovery mends."""
    own = await lineage(tmp_path)
    with sqlite3.connect(tmp_path / DATABASE) as db:
        db.execute("DELETE FROM meta WHERE key = 'lineage'")
    write_mark(tmp_path, Mark(lineage=own, starts=1))
    attempt_directory(tmp_path, 1, 1)
    with pytest.raises(StartRefused, match="leptond recover"):
        guard(tmp_path)
    assert recover(tmp_path, source=None, dry_run=True).needed is not None
