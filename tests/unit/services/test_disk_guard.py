"""The disk guard: submits are refused early, the ballast is deleted when the disk is full, and the queue goes
on when there is space again."""

import os

import pytest

from leptond.base.errors import StorageFull
from leptond.config import StorageSettings
from leptond.services.disk_guard import BALLAST, NO_BALLAST_INTERVAL_S, DiskGuard, free_space
from tests.unit.services.virtual import VirtualTime, time

__all__ = ["time"]

MIB = 1024**2
SETTINGS = StorageSettings(min_free_bytes=80 * MIB, ballast_bytes=MIB)


class Disk:
    """A guard of a directory whose free bytes a test sets."""

    def __init__(self, time: VirtualTime, path, settings=SETTINGS):
        self.free = {path: 1000 * MIB, path / "jobs": 1000 * MIB}
        self.measured = 0
        self.recoveries = 0
        self.ballast = path / BALLAST
        self.guard = DiskGuard(settings, path, time, self.measure)
        self.time = time

    def measure(self, place):
        self.measured += 1
        return self.free[place]

    def set_free(self, size):
        self.free = dict.fromkeys(self.free, size)

    def run(self):
        def recovered():
            self.recoveries += 1

        return self.time.start(self.guard.run(recovered))


@pytest.fixture
def disk(time, tmp_path):
    return Disk(time, tmp_path)


def test_the_ballast_is_allocated_on_the_disk(disk):
    disk.run()
    disk.time.pass_s(1)
    found = disk.ballast.stat()
    assert found.st_size == MIB
    assert found.st_blocks * 512 >= MIB  # not a hole
    assert found.st_mode & 0o077 == 0
    assert [path.name for path in disk.ballast.parent.iterdir()] == [BALLAST]


def test_with_its_ballast_it_is_at_rest(disk):
    disk.run()
    disk.time.pass_s(1)
    assert disk.time.loop.next_at() is None


def test_a_ballast_of_another_size_is_allocated_anew(disk):
    disk.ballast.write_bytes(b"x" * 10)
    assert disk.guard.allocate_ballast()
    assert disk.ballast.stat().st_size == MIB


def test_without_ballast_in_the_settings_an_old_one_goes(time, tmp_path):
    disk = Disk(time, tmp_path, StorageSettings(ballast_bytes=0))
    disk.ballast.write_bytes(b"x")
    disk.run()
    time.pass_s(1)
    assert not disk.ballast.exists()
    assert time.loop.next_at() is None


def test_it_waits_for_space_for_the_ballast(disk):
    disk.set_free(5 * MIB)
    disk.run()
    disk.time.pass_s(1)
    assert not disk.ballast.exists()
    disk.set_free(1000 * MIB)
    disk.time.pass_s(NO_BALLAST_INTERVAL_S)
    assert disk.ballast.exists()


def test_a_ballast_that_cannot_be_allocated_leaves_nothing(disk):
    disk.ballast.mkdir()  # nothing can be renamed to it
    (disk.ballast / "file").touch()
    assert not disk.guard.allocate_ballast()
    assert [path.name for path in disk.ballast.parent.iterdir()] == [BALLAST]


def test_jobs_are_refused_while_less_than_the_minimum_is_free(disk):
    disk.guard.check_accepts_jobs()
    disk.set_free(79 * MIB)
    disk.time.pass_s(1)
    with pytest.raises(StorageFull, match="79"):
        disk.guard.check_accepts_jobs()
    assert disk.guard.may_start()  # what was accepted still starts
    disk.set_free(9 * MIB)
    disk.time.pass_s(1)
    assert not disk.guard.may_start()


def test_the_fuller_disk_counts(disk, tmp_path):
    disk.free[tmp_path / "jobs"] = 3 * MIB
    assert disk.guard.free_bytes() == 3 * MIB
    assert not disk.guard.may_start()


def test_a_burst_of_submits_measures_once(disk):
    for _ in range(100):
        disk.guard.check_accepts_jobs()
    assert disk.measured == 2  # both places
    disk.time.pass_s(0.6)
    disk.guard.check_accepts_jobs()
    assert disk.measured == 4


def test_a_full_disk_takes_the_ballast_and_stops_starts_until_there_is_space(disk):
    disk.run()
    disk.time.pass_s(1)
    disk.set_free(0)
    disk.guard.disk_full()
    assert not disk.ballast.exists()
    assert not disk.guard.may_start()
    with pytest.raises(StorageFull):
        disk.guard.check_accepts_jobs()
    disk.time.pass_s(100)
    assert disk.recoveries == 0
    disk.set_free(1000 * MIB)
    disk.time.pass_s(1.1)
    assert disk.recoveries == 1
    assert disk.ballast.stat().st_size == MIB
    disk.guard.check_accepts_jobs()
    disk.time.pass_s(1)
    assert disk.time.loop.next_at() is None  # at rest again


def test_an_outage_does_not_end_before_the_ballast_is_back(disk):
    disk.run()
    disk.time.pass_s(1)
    disk.set_free(int(10.5 * MIB))  # enough to start, not enough for the ballast beside it
    disk.guard.disk_full()
    disk.time.pass_s(60)
    assert disk.recoveries == 0
    assert not disk.guard.may_start()


def test_failing_writes_during_an_outage_do_not_wake_it(disk):
    disk.run()
    disk.time.pass_s(1)
    disk.set_free(0)
    disk.guard.disk_full()
    disk.time.pass_s(0.5)
    before = disk.measured
    for _ in range(1000):
        disk.guard.disk_full()
        disk.time.pass_s(0.0001)
    assert disk.measured - before <= 4


def test_a_start_on_a_full_disk_gives_the_ballast_for_it(disk):
    disk.ballast.write_bytes(b"x" * MIB)
    disk.set_free(9 * MIB)
    disk.guard.release_ballast_if_full()
    assert not disk.ballast.exists()
    assert not disk.guard.may_start()
    disk.run()
    disk.set_free(1000 * MIB)
    disk.time.pass_s(2)
    assert disk.recoveries == 1


def test_a_start_with_space_keeps_the_ballast(disk):
    disk.ballast.write_bytes(b"x" * MIB)
    disk.guard.release_ballast_if_full()
    assert disk.ballast.exists()
    assert disk.guard.may_start()


def test_free_space_is_what_a_user_may_still_write(tmp_path):
    found = os.statvfs(tmp_path)
    assert abs(free_space(tmp_path) - found.f_bavail * found.f_frsize) < 10**10
    assert free_space(tmp_path / "not there") > 10**18
