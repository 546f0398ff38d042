"""The load of a benchmark: processes that spin, and end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.benchmarks.load import Load, NotBusy, process_cpu_s
from tests.support.daemon import TOP, gone, until


def test_every_core_is_kept_busy_and_nothing_is_left():
    load = Load("busy")
    with load.on():
        pids = load.pids()
        assert len(pids) == len(os.sched_getaffinity(0))
        assert all(os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) for pid in pids)
        before = [process_cpu_s(pid) for pid in pids]
        until(lambda: all(process_cpu_s(pid) > at + 0.1 for pid, at in zip(pids, before, strict=True)))
    assert load.share is not None
    assert 0.05 < load.share <= 1.05
    assert all(gone(pid) for pid in pids)
    assert load.pids() == []


def test_a_quiet_load_starts_nothing():
    load = Load()
    with load.on(), load.paused():
        assert load.pids() == []
    assert load.share is None


def test_a_pause_stops_them_and_does_not_count():
    load = Load("busy")
    with load.on():
        with load.paused():
            stopped = [_state(pid) for pid in load.pids()]
            time.sleep(0.2)
        at = [process_cpu_s(pid) for pid in load.pids()]
        until(lambda: all(process_cpu_s(pid) > was + 0.2 for pid, was in zip(load.pids(), at, strict=True)))
    assert set(stopped) == {"T"}
    assert load.share is not None


def _state(pid):
    def stopped():
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state if state == "T" else ""

    return until(stopped, "stopped")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_cores_that_were_not_busy_are_an_error(number):
    def disturb():
        with Load("busy").on() as load:
            pids.extend(load.pids())
            os.kill(pids[0], number)
            time.sleep(1.5)  # in which the share of one that is stopped falls

    pids: list[int] = []
    with pytest.raises(NotBusy, match="should spin"):
        disturb()
    assert all(gone(pid) for pid in pids)


def test_a_failure_of_what_is_measured_is_what_is_told():
    def fail():
        with Load("busy").on() as load:
            pids.extend(load.pids())
            raise OSError("no room")

    pids: list[int] = []
    with pytest.raises(OSError, match="no room"):
        fail()
    assert all(gone(pid) for pid in pids)


def test_they_end_with_the_run_even_if_it_is_killed():
    code = "from tests.benchmarks.load import spin; print(spin().pid, flush=True); input()"
    run = subprocess.Popen(
        [sys.executable, "-c", code], cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert run.stdout is not None
    spinning = int(run.stdout.readline())
    run.kill()
    assert gone(spinning)
    run.communicate()
