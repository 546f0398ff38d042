"""Writes that wake the scheduler, those that do not, and the version that tells them apart."""

import asyncio
import contextlib
import sqlite3

import pytest

from leptond.store import StoreConflict, StoreUnavailable
from tests.support.queue import store, submit

__all__ = ["store"]


def note(db, value):
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('note', ?)", (value,))


async def test_only_a_change_that_wakes_the_scheduler_counts_in_the_version(store):
    commits, changes = [], []
    store.on_commit(lambda: commits.append(store.version))
    store.on_change(lambda: changes.append(store.version))
    before = store.version
    await store.write(note, "a", wakes_scheduler=False)
    assert store.version == before
    assert (len(commits), changes) == (1, [])
    await store.write(note, "b")
    assert store.version == before + 1
    assert (len(commits), changes) == (2, [before + 1])


async def test_there_is_no_version_while_a_change_waits(store):
    quiet = asyncio.create_task(store.write(note, "a", wakes_scheduler=False))
    await asyncio.sleep(0)
    assert store.version is not None
    loud = asyncio.create_task(store.write(note, "b"))
    await asyncio.sleep(0)
    assert store.version is None
    await asyncio.gather(quiet, loud)
    assert store.version is not None


async def test_only_what_no_plan_reckons_with_counts_as_a_change_by_others(store):
    before = store.others
    await store.write(note, "a", wakes_scheduler=False)
    await store.write_planned(lambda db: None)
    await store.write_urgent(lambda db: None)
    assert store.others == before
    await store.write(note, "b")
    assert store.others == before + 1


async def test_urgent_changes_that_come_during_a_commit_do_not_wait(store, monkeypatch):
    monkeypatch.setattr("leptond.store.database.connection.RETRY_S", 3600.0)
    order = []
    async with asyncio.timeout(30):
        first = store.write_urgent(lambda db: order.append(1))
        await asyncio.sleep(0)
        await asyncio.gather(first, *(store.write_urgent(lambda db, n=n: order.append(n)) for n in (2, 3)))
    assert order == [1, 2, 3]


async def test_an_urgent_change_goes_first(store):
    order = []
    await asyncio.gather(
        store.write(lambda db: order.append("usual")), store.write_urgent(lambda db: order.append("urgent"))
    )
    assert order == ["urgent", "usual"]


async def test_a_change_that_the_schema_forbids_leaves_nothing(store):
    def twice(db):
        note(db, "lost")
        db.execute("INSERT INTO meta (key, value) VALUES ('note', 'again')")

    with pytest.raises(StoreConflict):
        await store.write(twice)
    assert not await store.read(lambda db: db.execute("SELECT 1 FROM meta WHERE key = 'note'").fetchall())


async def test_every_commit_is_synced_and_keys_are_checked(store):
    pragmas = await store.write(
        lambda db: {
            name: db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    )
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


async def test_the_reader_cannot_write(store):
    with pytest.raises(StoreUnavailable, match="readonly"):
        await store.read(lambda db: db.execute("DELETE FROM jobs"))


async def test_concurrent_changes_share_commits(store):
    before = store.commits
    ids = await asyncio.gather(*(submit(store) for _ in range(200)))
    assert sorted(ids) == list(range(1, 201))
    assert store.commits - before < 20


async def test_a_change_that_fails_undoes_itself_alone(store):
    def bad(db):
        db.execute("UPDATE jobs SET name = 'spoilt'")
        raise RuntimeError("no")

    first = await submit(store)
    results = await asyncio.gather(submit(store), store.write(bad), submit(store), return_exceptions=True)
    assert [type(result) for result in results] == [int, RuntimeError, int]
    names = await store.read(lambda db: [row[0] for row in db.execute("SELECT name FROM jobs")])
    assert names == ["true"] * 3
    assert first == 1


async def test_what_is_answered_is_there_for_another_process(store):
    job = await submit(store)
    with contextlib.closing(sqlite3.connect(store.path)) as other:
        assert other.execute("SELECT id FROM jobs").fetchall() == [(job,)]


def notes(db, items):
    """A merge: stores each text under itself, and refuses the empty one."""
    if "all" in items and len(items) > 1:
        raise RuntimeError("not together")
    db.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", [(item, len(items)) for item in items])
    return [(item, None) if item else (None, ValueError("empty")) for item in items]


async def stored(store):
    return await store.read(
        lambda db: dict(map(tuple, db.execute("SELECT key, value FROM meta WHERE length(key) < 4")))
    )


async def test_merged_changes_are_carried_out_together_in_their_order(store):
    before, unmerged = store.version, store.unmerged
    results = await asyncio.gather(
        *(store.write_merged(notes, item, wakes_scheduler=item == "b") for item in ("a", "b", "")),
        store.write(note, "x"),
        store.write_merged(notes, "c"),
        return_exceptions=True,
    )
    assert [str(result) for result in results] == ["a", "b", "empty", "None", "c"]
    assert await stored(store) == {"a": "3", "b": "3", "": "3", "c": "1"}
    assert (store.version, store.unmerged) == (before + 3, unmerged + 1)


async def test_merged_changes_that_fail_together_are_tried_alone(store):
    results = await asyncio.gather(
        *(store.write_merged(notes, item) for item in ("a", "all", "a", "b")), return_exceptions=True
    )
    assert results[:2] == ["a", "all"]
    assert isinstance(results[2], StoreConflict)  # its key is there already
    assert results[3] == "b"
    assert await stored(store) == {"a": "1", "all": "1", "b": "1"}


async def test_the_number_of_unmerged_changes_is_new_before_a_change_is_answered(store):
    seen = []
    store.on_commit(lambda: seen.append(store.unmerged))
    before = store.unmerged
    await store.write(note, "a")
    assert (store.unmerged, seen) == (before + 1, [before + 1])
