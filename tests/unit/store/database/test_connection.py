"""Writes that wake the scheduler, those that do not, and the version that tells them apart."""

import asyncio

import pytest

from leptond.store import StoreConflict, open_store


def note(db, value):
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('note', ?)", (value,))


@pytest.fixture
async def store(tmp_path):
    async with open_store(tmp_path / "leptond.db") as one:
        yield one


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


async def test_a_change_knows_the_version_that_its_commit_makes(store):
    seen = await store.write(lambda db: store.next_version)
    assert seen == store.version


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
