"""Locks that end with their holder: of a state directory, a queue, a GPU."""

import os
import stat
import subprocess
import sys

import pytest

from leptond.base import locks as holder
from leptond.base.clock import SystemClock
from leptond.base.errors import StartRefused
from leptond.base.locks import LockBusy, MachineLocks, check_hard_links, machine_locks
from leptond.gpus.base import Device
from leptond.services.gpu_watch import GpuWatch
from leptond.store import open_store

HOLD = """
import sys
from pathlib import Path
from leptond.base.locks import MachineLocks
locks = MachineLocks(Path(sys.argv[1]))
locks.take(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_had_once_and_ends_with_its_process(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), "x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"held\n"
        locks = MachineLocks(tmp_path)
        with pytest.raises(LockBusy) as busy:
            locks.take("x")
        assert busy.value.pid == process.pid
        locks.take("y")
        process.kill()
    locks.take("x")
    locks.take("x")
    with pytest.raises(LockBusy) as busy:
        MachineLocks(tmp_path).take("x")
    assert busy.value.pid == os.getpid()
    locks.release()
    again = MachineLocks(tmp_path)
    again.take("x")
    assert not stat.S_IMODE((tmp_path / "leptond-x.lock").stat().st_mode) & 0o022
    again.release()
    assert list(tmp_path.iterdir()) == [], "no file is left of a lock that was let go"


def test_who_opened_a_lock_that_was_then_removed_does_not_hold_it(tmp_path, monkeypatch):
    first = MachineLocks(tmp_path)
    first.take("x")
    stale = os.open(tmp_path / "leptond-x.lock", os.O_RDONLY)
    first.release()
    opened = iter([stale])
    real = holder._open_shared
    monkeypatch.setattr(holder, "_open_shared", lambda path: next(opened, None) or real(path))
    second = MachineLocks(tmp_path)
    second.take("x")
    with pytest.raises(LockBusy):
        MachineLocks(tmp_path).take("x")
    second.release()


def test_what_is_not_a_file_of_ours_is_no_lock_and_no_obstacle(tmp_path):
    (tmp_path / "secret").write_text("kept")
    (tmp_path / "leptond-x.lock").symlink_to(tmp_path / "secret")
    MachineLocks(tmp_path).take("x")
    MachineLocks(tmp_path / "not-there").take("x")
    assert (tmp_path / "secret").read_text() == "kept"


def test_a_second_daemon_of_a_queue_is_refused(tmp_path):
    with machine_locks("test-queue", tmp_path):
        with (
            pytest.raises(StartRefused, match=f"pid {os.getpid()}") as refused,
            machine_locks("test-queue", tmp_path),
        ):
            pass
        assert refused.value.exit_code == 75
    with machine_locks("test-queue", tmp_path):
        pass


def test_a_database_with_two_names_is_refused(tmp_path):
    check_hard_links(tmp_path / "leptond.db")
    (tmp_path / "leptond.db").touch()
    check_hard_links(tmp_path / "leptond.db")
    os.link(tmp_path / "leptond.db", tmp_path / "other.db")
    with pytest.raises(StartRefused, match="second name") as refused:
        check_hard_links(tmp_path / "leptond.db")
    assert refused.value.exit_code == 78


class Backend:
    """Two devices that are not simulated."""

    name = "nvml"
    note = None

    async def open(self):
        return [Device(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=1, simulated=False) for i in range(2)]

    async def sample(self):
        return []

    async def close(self):
        pass


async def test_a_gpu_is_given_away_by_one_queue(tmp_path):
    (tmp_path / "locks").mkdir()
    first, second = MachineLocks(tmp_path / "locks"), MachineLocks(tmp_path / "locks")
    async with open_store(tmp_path / "one.db") as one, open_store(tmp_path / "two.db") as two:
        watch = GpuWatch(Backend(), one, SystemClock(), 5.0, locks=first)
        await watch.open()
        assert watch.unhealthy() == {}
        other = GpuWatch(Backend(), two, SystemClock(), 5.0, locks=second)
        await other.open()
        assert await two.read(lambda db: db.execute("SELECT count(*) FROM gpus").fetchone()[0]) == 0
        first.release()
        await other.open()
        assert await two.read(lambda db: db.execute("SELECT count(*) FROM gpus").fetchone()[0]) == 2
        second.release()
