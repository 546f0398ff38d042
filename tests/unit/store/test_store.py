"""The door to the database: its name, its listeners, and what it says when it is opened again."""

import sqlite3
from contextlib import closing

import pytest

from leptond.base.errors import EXIT_CONFIG, StartRefused
from leptond.store import DATABASE, Store, StoreError, open_store
from leptond.store.queue import gpus, jobs
from tests.support.queue import store, submit, two_gpus
from tests.support.store import open_new_store

__all__ = ["store"]


async def test_a_database_keeps_its_name_and_another_has_another(tmp_path):
    async with open_new_store(tmp_path / "a.db") as one:
        name = one.lineage
        await one.write(gpus.sync, two_gpus(), 1.0)
        job = await submit(one)
    async with open_store(tmp_path / "a.db") as one:
        assert one.lineage == name
        assert (await one.read(jobs.find, str(job))).id == job
    (tmp_path / "b.db").write_bytes((tmp_path / "a.db").read_bytes())
    async with open_store(tmp_path / "b.db") as copy, open_new_store(tmp_path / "c.db") as other:
        assert copy.lineage == name
        assert other.lineage not in ("", name)


async def test_a_new_database_is_its_users_alone(tmp_path):
    async with open_store(tmp_path / DATABASE) as one:
        await one.ping()
        assert one.path.stat().st_mode & 0o077 == 0


async def test_listeners_hear_of_commits_and_not_of_reads_or_failures(store):
    heard = []
    store.on_commit(lambda: heard.append("commit"))
    store.on_change(lambda: heard.append("change"))
    await store.read(jobs.counts)
    await store.browse(jobs.counts)
    assert heard == []
    before = store.commits
    await submit(store)
    assert heard == ["commit", "change"]
    assert store.commits == before + 1

    def fails(db):
        db.execute("UPDATE jobs SET name = 'changed'")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.write(fails)
    assert (await store.read(jobs.find, "1")).name != "changed"


async def test_readers_cannot_write(store):
    for read in (store.read, store.browse):
        with pytest.raises((sqlite3.Error, StoreError), match=r"readonly|read-only"):
            await read(lambda db: db.execute("DELETE FROM gpus"))
    assert await store.read(lambda db: db.execute("SELECT count(*) FROM gpus").fetchone()[0]) == 2


async def test_a_full_disk_is_told_and_a_broken_one_ends_the_daemon(store):
    full = []
    store.on_full(lambda: full.append(True))
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    store._failed(error)
    assert (full, store.broken.done()) == ([True], False)
    damaged = sqlite3.DatabaseError("database disk image is malformed")
    damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    store._failed(damaged)
    store._failed(damaged)
    assert isinstance(store.broken.result(), StartRefused)


async def test_what_is_no_database_is_not_touched(tmp_path):
    (tmp_path / DATABASE).write_text("mine, and long enough to be looked at" * 200)
    before = (tmp_path / DATABASE).read_bytes()
    one = Store(tmp_path / DATABASE)
    with pytest.raises(StartRefused) as refused:
        await one.open()
    await one.close()
    assert refused.value.exit_code == EXIT_CONFIG
    assert (tmp_path / DATABASE).read_bytes() == before


async def test_what_was_written_is_in_the_file_when_it_is_closed(tmp_path):
    async with open_new_store(tmp_path / DATABASE) as one:
        await one.write(gpus.sync, two_gpus(), 1.0)
    with closing(sqlite3.connect(f"file:{tmp_path / DATABASE}?immutable=1", uri=True)) as db:
        assert db.execute("SELECT count(*) FROM gpus").fetchone()[0] == 2
