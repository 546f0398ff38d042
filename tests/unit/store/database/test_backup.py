"""Copies of the database while it is written, and what is refused without changing a byte."""

import asyncio
import contextlib
import sqlite3
import stat
import threading

import pytest

from leptond.base.errors import StartRefused
from leptond.base.paths import data_dir
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import JobSpec
from leptond.store import open_store
from leptond.store.database import backup
from leptond.store.database.examine import SIDECARS, Damaged, examine
from leptond.store.database.migrate import newest
from leptond.store.queue import jobs

NEWEST = newest(data_dir("migrations"))


async def submit(store, count=1):
    one = admit(JobSpec(argv=["true"]), gpus=0, home="/", defaults=Defaults())
    await store.write(jobs.submit, [one] * count, user="ana", now=1.0, max_pending=10**6)


def counted(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT count(*) FROM jobs").fetchone()[0]


async def test_a_snapshot_is_one_moment_while_writers_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(backup, "SLICE_PAGES", 4)
    async with open_store(tmp_path / "leptond.db") as store:
        await submit(store, 2000)
        sliced, target = 0, tmp_path / "copy.db"
        copying = asyncio.create_task(asyncio.to_thread(backup.snapshot, store.path, target, now=5.0))
        while not copying.done():
            await submit(store)  # each is durable before the next: the copy holds nobody up
            sliced += 1
        await copying
        live = await store.read(lambda db: db.execute("SELECT count(*) FROM jobs").fetchone()[0])
    assert sliced > 10, "writes went on while it was copied"
    assert 2000 <= counted(target) < live == 2000 + sliced
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert not any(found for suffix in SIDECARS for found in tmp_path.glob(f"copy.db{suffix}"))
    assert examine(target, NEWEST, whole=True) == NEWEST


async def test_a_snapshot_that_is_given_up_leaves_nothing(tmp_path):
    async with open_store(tmp_path / "leptond.db") as store:
        await submit(store, 10)
        stop = threading.Event()
        stop.set()
        with pytest.raises(backup.Stopped):
            backup.snapshot(store.path, tmp_path / "copy.db", now=1.0, stop=stop)
        (tmp_path / "taken.db").write_text("somebody's")
        with pytest.raises(FileExistsError):
            backup.snapshot(store.path, tmp_path / "taken.db", now=1.0)
    assert (tmp_path / "taken.db").read_text() == "somebody's"
    assert not list(tmp_path.glob("copy*"))


async def test_only_the_newest_backups_stay(tmp_path):
    async with open_store(tmp_path / "leptond.db") as store:
        for day in range(4):
            backup.keep(tmp_path, store.path, now=86400.0 * day)
        (tmp_path / "backups" / "notes.txt").write_text("mine")
        (tmp_path / "backups" / ".17-1.tmp").write_text("a crash left it")
        backup.forget_old(tmp_path, 2)
    assert [one.name for one in backup.kept(tmp_path)] == [
        "leptond-19700104T000000Z.db",
        "leptond-19700103T000000Z.db",
    ]
    assert (tmp_path / "backups" / "notes.txt").exists(), "what is not ours stays"
    assert not list((tmp_path / "backups").glob(".*"))


def state_of(directory):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}


async def leave_behind(tmp_path, *statements):
    """A database as a crash leaves it: with what was committed last still in its log."""
    place = tmp_path / "state"
    place.mkdir()
    async with open_store(tmp_path / "leptond.db") as store:
        await submit(store, 3)
        await store.write(lambda db: [db.execute(one) for one in statements])
        for suffix in ("", "-wal", "-shm"):
            (place / f"leptond.db{suffix}").write_bytes((tmp_path / f"leptond.db{suffix}").read_bytes())
    return place


async def test_a_newer_database_is_refused_and_no_byte_changes_not_even_in_its_log(tmp_path):
    place = await leave_behind(tmp_path, f"PRAGMA user_version = {NEWEST + 1}")
    before = state_of(place)
    assert before["leptond.db-wal"][0], "its schema number stands in the log alone"
    with pytest.raises(StartRefused, match="newer leptond") as refusal:
        async with open_store(place / "leptond.db"):
            pass
    assert refusal.value.exit_code == 78
    assert state_of(place) == before


async def test_a_damaged_database_is_refused_and_no_byte_changes(tmp_path):
    place = await leave_behind(tmp_path)
    with contextlib.closing(sqlite3.connect(place / "leptond.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs'").fetchone()[0]
    file = place / "leptond.db"
    data = bytearray(file.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = bytes(4096)
    file.write_bytes(data)
    before = state_of(place)
    with pytest.raises(Damaged, match="leptond recover") as refusal:
        async with open_store(file):
            pass
    assert refusal.value.exit_code == 78
    assert state_of(place) == before


async def test_the_database_of_another_program_is_refused(tmp_path):
    file = tmp_path / "leptond.db"
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE moz_places (url)")
        db.commit()
    before = state_of(tmp_path)
    with pytest.raises(Damaged, match="another program"):
        async with open_store(file):
            pass
    assert state_of(tmp_path) == before


async def test_a_backup_is_made_before_the_schema_changes(tmp_path, monkeypatch):
    async with open_store(tmp_path / "leptond.db") as store:
        await submit(store, 3)
    more = tmp_path / "migrations"
    more.mkdir()
    for file in data_dir("migrations").glob("*.sql"):
        (more / file.name).write_text(file.read_text())
    (more / f"{NEWEST + 1:04}_more.sql").write_text("CREATE TABLE more (x);")
    monkeypatch.setattr("leptond.store.data_dir", lambda name: more)
    async with open_store(tmp_path / "leptond.db"):
        pass
    (one,) = backup.kept(tmp_path)
    assert one.name.endswith(f"-before-schema-{NEWEST + 1}.db")
    assert examine(tmp_path / "backups" / one.name, NEWEST, whole=True) == NEWEST
    assert counted(tmp_path / "backups" / one.name) == 3
