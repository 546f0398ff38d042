"""What /proc shows of processes, read in one place."""

import errno
import os
import resource
import signal
import subprocess
import sys

import pytest

from leptond.base import procfs


def start(code: str) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("name", ["plain", ") Z 1 (", "a b", "((", "\n"])
def test_a_name_may_hold_anything(name):
    code = f"import time; open('/proc/self/comm', 'w').write({name!r}); print(flush=True); time.sleep(600)"
    process = start(code)
    try:
        stat = procfs.read_stat(process.pid)
        assert (stat.parent, stat.group, stat.session) == (os.getpid(), os.getpgrp(), os.getsid(0))
        assert (stat.ended, stat.stopped) == (False, False)
        assert 0 < stat.start_ticks == procfs.read_stat(process.pid).start_ticks
    finally:
        end(process)


def test_a_zombie_has_ended_and_a_collected_process_is_gone():
    process = start("print(flush=True)")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    stat = procfs.read_stat(process.pid)
    assert (stat.state, stat.ended) == ("Z", True)
    assert process.pid not in procfs.descendants(os.getpid())
    end(process)
    assert procfs.read_stat(process.pid) is None
    assert procfs.parent(process.pid) == 0


def test_a_stopped_process_is_stopped_and_alive():
    process = start("import time; print(flush=True); time.sleep(600)")
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    stat = procfs.read_stat(process.pid)
    assert (stat.stopped, stat.ended) == (True, False)
    end(process)


def test_a_process_that_was_killed_is_dying_before_it_has_ended():
    process = start("import time; print(flush=True); time.sleep(600)")
    assert not procfs.is_dying(process.pid)
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    process.send_signal(signal.SIGTERM)
    assert not procfs.is_dying(process.pid)
    process.kill()
    assert procfs.is_dying(process.pid)
    end(process)
    assert procfs.is_dying(process.pid)


def test_descendants_come_with_their_groups_and_without_their_parent():
    code = (
        "import subprocess, sys, time\n"
        "one = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "print(one.pid, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE)
    below = int(process.stdout.readline())
    try:
        assert procfs.descendants(process.pid) == {below: below}
        assert procfs.descendants(os.getpid()).keys() >= {process.pid, below}
        assert procfs.parent(below) == process.pid
    finally:
        os.kill(below, signal.SIGKILL)
        end(process)


def test_a_shortage_of_descriptors_is_no_sign_of_a_process_that_is_gone():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        assert procfs.read_stat(os.getpid()) is None
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            procfs.read_stat(os.getpid(), strict=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert procfs.read_stat(os.getpid(), strict=True) is not None
