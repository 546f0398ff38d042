"""A state directory that was copied or moved: of a queue and its copies one goes on, and what runs is never
taken for lost because a file looks free."""

import fcntl
import json
import os
import shutil
import subprocess

import pytest

from leptond.attempt_files import layout
from leptond.base import procfs
from leptond.base.clock import kernel_boot_id
from leptond.base.errors import StartRefused
from leptond.base.locks import machine_locks
from leptond.recovery.copied_state import adopt_copy, check_place, former_places, settle_here
from leptond.recovery.mark import Mark, read_mark, write_mark


@pytest.fixture
def process():
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as one:
        yield one
        one.kill()


@pytest.fixture
def state(tmp_path, process):
    """A state directory with an attempt that runs: its shim, here a bare process, has the lock."""
    place = tmp_path / "state"
    attempt = place / "jobs" / "7" / "1"
    attempt.mkdir(parents=True)
    identity = {
        "attempt_id": "a7",
        "boot_id": kernel_boot_id(),
        "pid": process.pid,
        "start_ticks": procfs.read_stat(process.pid).start_ticks,
    }
    (attempt / layout.IDENTITY).write_text(json.dumps(identity))
    settle_here(place, "abc", 3)
    fd = os.open(attempt / layout.LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield place
    os.close(fd)


def copied(state, name="copy"):
    return shutil.copytree(state, state.with_name(name))


def refusal(state_dir):
    with pytest.raises(StartRefused) as refused:
        check_place(state_dir)
    assert refused.value.exit_code == 78
    return str(refused.value)


def test_the_directory_itself_starts_and_so_does_one_that_was_renamed(state):
    check_place(state)
    moved = state.rename(state.with_name("moved"))
    check_place(moved)
    settle_here(moved, "abc", 4)
    assert former_places(moved) == [state]


def test_a_copy_whose_jobs_run_is_refused_and_names_the_other(state):
    copy = copied(state)
    said = refusal(copy)
    assert f"is a copy of {state}" in said
    assert "job 7" in said
    assert f"leptond recover --adopt-copy --state-dir {copy}" in said


def test_a_copy_of_an_older_release_is_known_by_its_locks(state):
    write_mark(state, Mark(lineage="abc", starts=3))
    check_place(state)
    assert "is a copy of another directory" in refusal(copied(state))


def test_a_job_that_exchanges_its_own_lock_stops_nobody(state):
    lock = state / "jobs" / "7" / "1" / layout.LOCK
    lock.unlink()
    lock.touch()
    check_place(state)


@pytest.mark.parametrize("how", ["ended", "killed"])
def test_a_copy_of_which_nothing_runs_may_start_and_looks_for_records_in_the_other(state, process, how):
    copy = copied(state)
    if how == "ended":
        (copy / "jobs" / "7" / "1" / layout.EXIT).write_text("{}")
    else:
        process.kill()
        process.wait()
    check_place(copy)
    assert former_places(copy) == [state]


def test_only_one_of_a_queue_and_its_copies_goes_on(state):
    copy = copied(state)
    said = adopt_copy(copy)
    assert f"it has left {state}" in said[1]
    assert "job 7, attempt 1" in said[2]
    check_place(copy)
    assert f"has gone on in {copy}" in refusal(state)
    adopt_copy(state)
    check_place(state)
    assert f"has gone on in {state}" in refusal(copy)
    assert former_places(state) == [copy]


def test_a_queue_whose_copy_was_removed_starts_again(state):
    copy = copied(state)
    adopt_copy(copy)
    shutil.rmtree(copy)
    check_place(state)


def test_another_queue_in_a_former_place_is_left_alone(state):
    copy = copied(state)
    write_mark(state, Mark(lineage="other", starts=1))
    adopt_copy(copy)
    assert read_mark(state).moved_to is None


def test_while_a_daemon_runs_the_other_it_may_be_tried_later(state):
    copy = copied(state)
    with machine_locks("abc", state), pytest.raises(StartRefused, match="already runs the queue") as refused:
        check_place(copy)
    assert refused.value.exit_code == 75
