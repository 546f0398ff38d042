"""Backups when they are due, and the hourly purge, on a real database."""

import asyncio
import sqlite3

import pytest

from leptond.config import Settings, StorageSettings
from leptond.core.retention_limits import RetentionLimits
from leptond.services import maintenance as module
from leptond.services.maintenance import INTERVAL_S, Maintenance, keep_backup
from leptond.services.retention import Retention
from leptond.store.database import backup
from tests.support.queue import claim, finish, store, submit

__all__ = ["store"]

DAY = 86400.0


class Clock:
    """A clock that a test sets."""

    boot_id = "boot"

    def __init__(self):
        self.now = 1000 * DAY

    def wall(self):
        return self.now

    def boot(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(store, clock, tmp_path):
    (tmp_path / "jobs").mkdir()

    def maintenance(**storage):
        settings = Settings(storage=StorageSettings(**storage), retention=RetentionLimits(job_age_s=DAY))
        return Maintenance(settings, store, clock, Retention(store, clock))

    return maintenance


async def test_a_backup_is_taken_when_it_is_due_and_not_before(make, clock, tmp_path):
    one = make(backup_every_s=DAY)
    assert await one._backup() == INTERVAL_S
    assert len(backup.kept(tmp_path)) == 1
    clock.now += 12 * 3600
    assert await one._backup() == INTERVAL_S  # half a day is left: look again in an hour at the latest
    clock.now += 12 * 3600 - 600
    assert await one._backup() == pytest.approx(600)
    assert len(backup.kept(tmp_path)) == 1
    clock.now += 600
    await one._backup()
    assert len(backup.kept(tmp_path)) == 2


async def test_a_backup_of_the_last_daemon_counts(make, store, clock, tmp_path):
    await keep_backup(store, clock.now - 3600, 7)
    await make(backup_every_s=DAY)._backup()
    assert len(backup.kept(tmp_path)) == 1


async def test_a_backup_from_the_future_says_nothing(make, store, clock, tmp_path):
    await keep_backup(store, clock.now + 365 * DAY, 7)  # the clock has been set back
    await make(backup_every_s=DAY)._backup()
    assert len(backup.kept(tmp_path)) == 2


async def test_only_the_newest_stay(make, clock, tmp_path):
    one = make(backup_every_s=60.0, backup_keep=2)
    for _ in range(4):
        assert await one._backup() == 60.0
        clock.now += 60
    assert [found.taken_at for found in backup.kept(tmp_path)] == [clock.now - 60, clock.now - 120]


async def test_a_backup_is_a_whole_database(store, clock, tmp_path):
    job = await submit(store)
    one = await keep_backup(store, clock.now, 7)
    with sqlite3.connect(tmp_path / "backups" / one.name) as copy:
        assert copy.execute("SELECT id FROM jobs").fetchall() == [(job,)]
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    copy.close()


async def test_without_space_no_backup_is_begun(store, clock, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("", (), {"free": 1}))
    with pytest.raises(OSError, match="are free"):
        await keep_backup(store, clock.now, 7)
    assert backup.kept(tmp_path) == []


async def test_the_purge_removes_what_is_past_its_age(make, store, clock):
    one = await submit(store)
    found = await claim(store, one)
    await finish(store, found.attempt.id, 0, now=clock.now - 3600)
    assert await make()._purge() == INTERVAL_S
    assert await store.read(lambda db: db.execute("SELECT count(*) FROM jobs").fetchone()[0]) == 1
    clock.now += DAY
    await make()._purge()
    assert await store.read(lambda db: db.execute("SELECT count(*) FROM jobs").fetchone()[0]) == 0


async def test_both_loops_run_after_a_quiet_start(make, store, clock, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "QUIET_START_S", 0.0)
    (tmp_path / "jobs" / "1").mkdir()  # of a job that is gone: the purge removes it
    await submit(store)
    await store.write(lambda db: db.execute("DELETE FROM jobs"))
    task = asyncio.create_task(make(backup_every_s=DAY).run())
    async with asyncio.timeout(60):
        while not backup.kept(tmp_path) or (tmp_path / "jobs" / "1").exists():
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def names(maintenance):
    return [loop.name for loop in maintenance._loops]


async def test_backups_can_be_switched_off(make):
    assert names(make(backup_every_s=0.0)) == ["purge"]
    assert names(make()) == ["purge", "backup"]
