"""Attempts as their directories and /proc show them."""

import fcntl
import json
import os
import subprocess

import pytest

from leptond.attempt_files import directory, layout
from leptond.base import procfs
from leptond.base.clock import kernel_boot_id


@pytest.fixture
def process():
    one = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield one
    one.kill()
    one.wait()


def write(jobs, job_id, number, pid, **more):
    place = jobs / str(job_id) / str(number)
    place.mkdir(parents=True)
    stat = procfs.read_stat(pid)
    identity = {
        "attempt_id": f"a{job_id}",
        "boot_id": kernel_boot_id(),
        "pid": pid,
        "start_ticks": stat.start_ticks,
        **more,
    }
    (place / layout.IDENTITY).write_text(json.dumps(identity))
    (place / layout.LOCK).touch()
    return place


def locked(place):
    """The lock of a directory, as a shim has it."""
    fd = os.open(place / layout.LOCK, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_an_attempt_lives_while_its_shim_lives_and_has_not_left_its_record(tmp_path, process):
    claim = {"job": {"name": "train"}, "gpus": [{"uuid": "GPU-1", "index": 1}]}
    fd = locked(write(tmp_path, 7, 2, process.pid, claim=claim))
    (one,) = directory.live_attempts(tmp_path)
    assert (one.job_id, one.number, one.attempt_id, one.name, one.gpu_indices) == (7, 2, "a7", "train", [1])
    os.close(fd)
    (one,) = directory.live_attempts(tmp_path)
    assert one.elsewhere, "a lock that looks free is no end: the shim may have another directory"
    (tmp_path / "7" / "2" / layout.EXIT).write_text("{}")
    assert directory.live_attempts(tmp_path) == [], "the shim has left its record, and has another attempt"
    locked(tmp_path / "7" / "2")
    process.kill()
    process.wait()
    assert directory.live_attempts(tmp_path) == []


def test_an_attempt_is_over_when_its_shim_holds_the_lock_of_another(tmp_path, process):
    write(tmp_path, 7, 1, process.pid)
    stat = procfs.read_stat(process.pid)
    identity = (kernel_boot_id(), process.pid, stat.start_ticks)
    assert [one.job_id for one in directory.live_attempts(tmp_path)] == [7]
    assert not directory.has_another(tmp_path, identity)
    fd = locked(write(tmp_path, 8, 1, process.pid))
    assert [one.job_id for one in directory.live_attempts(tmp_path)] == [8]
    assert directory.has_another(tmp_path, identity)
    os.close(fd)


def test_a_zombie_and_another_process_of_that_pid_are_not_alive(process):
    ticks = procfs.read_stat(process.pid).start_ticks
    assert directory.is_alive(kernel_boot_id(), process.pid, ticks)
    assert not directory.is_alive(kernel_boot_id(), process.pid, ticks + 1)
    assert not directory.is_alive("another", process.pid, ticks)
    assert not directory.is_alive(kernel_boot_id(), None, None)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not directory.is_alive(kernel_boot_id(), process.pid, ticks)


def test_the_command_is_the_first_child_that_leads_a_session(process):
    second = subprocess.Popen(["sleep", "600"], start_new_session=True)
    third = subprocess.Popen(["sleep", "600"])
    try:
        found = directory.command_pid(os.getpid())
        assert found not in (second.pid, third.pid)
        assert procfs.read_stat(found).start_ticks <= procfs.read_stat(process.pid).start_ticks
    finally:
        for one in (second, third):
            one.kill()
            one.wait()
    assert directory.command_pid(process.pid) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pid": "x"}', '{"pid": [1]}'])
def test_what_no_shim_writes_is_an_attempt_that_never_started(tmp_path, text):
    place = tmp_path / "1" / "1"
    place.mkdir(parents=True)
    (place / layout.IDENTITY).write_text(text)
    one = directory.read(tmp_path, 1, 1)
    assert (one.attempt_id, one.pid, one.claim, one.exit) == ("", 0, {}, None)


def test_numbers_are_plain_and_in_order(tmp_path):
    for name in ("10", "9", "09", "x", "-1", ".deck", "٣"):
        (tmp_path / name).mkdir()
    assert directory.numbers(tmp_path) == [9, 10]
    assert directory.numbers(tmp_path / "absent") == []
