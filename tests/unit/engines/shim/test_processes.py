"""Processes of an attempt as /proc shows them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from leptond.engines.shim.processes import open_pipes, read_processes

READY = "import signal, sys, time, os, threading; {}; print('up', flush=True); {}"


@pytest.fixture
def run():
    """`run(setup, wait)` is a child that has done the one and does the other."""
    started = []

    def call(setup="pass", wait="time.sleep(600)", **more):
        one = subprocess.Popen(
            [sys.executable, "-S", "-c", READY.format(setup, wait)],
            stdout=subprocess.PIPE,
            start_new_session=True,
            **more,
        )
        started.append(one)
        assert one.stdout.readline() == b"up\n"
        return one

    yield call
    for one in started:
        os.killpg(one.pid, signal.SIGKILL)  # its children too
        one.wait(30)
        one.stdout.close()


def seen(pid, ready=lambda process: True):
    deadline = time.monotonic() + 30
    while True:
        found = read_processes(os.getpid()).get(pid)
        if found is not None and ready(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.005)


def environments(parent):
    """What the children of a process were started with."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [word for pid in children for word in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")]


def bit(number):
    return 1 << (number - 1)


def test_what_a_process_does_with_signals(run):
    one = seen(
        run(
            "signal.signal(15, lambda *_: None); signal.signal(10, signal.SIG_IGN);"
            " signal.pthread_sigmask(signal.SIG_BLOCK, [12])"
        ).pid
    )
    assert one.catches & bit(signal.SIGTERM)
    assert one.ignores & bit(signal.SIGUSR1)
    assert one.blocks & bit(signal.SIGUSR2)
    assert not one.catches & bit(signal.SIGUSR1)
    assert (one.parent, one.threads) == (os.getpid(), 1)
    assert b"time.sleep(600)" in one.command
    assert 0 <= one.age_s < 60


def test_a_process_that_waits_for_its_child(run):
    parent = run("child = os.fork() or (time.sleep(600))", "os.wait()")
    one = seen(parent.pid, lambda process: process.waits)
    (child,) = [pid for pid, other in read_processes(os.getpid()).items() if other.parent == parent.pid]
    assert one.waits
    assert not read_processes(os.getpid())[child].waits


def test_a_process_that_waits_for_a_signal_does_so_only_with_one_thread(run):
    assert seen(run(wait="signal.pause()").pid, lambda process: process.waits).waits
    two = run("threading.Thread(target=time.sleep, args=(600,), daemon=True).start()", "signal.pause()")
    one = seen(two.pid, lambda process: process.threads == 2)
    assert not one.waits


def test_the_pipes_of_a_process_and_its_standard_input(run):
    one = run(stdin=subprocess.PIPE)
    with one.stdin:
        pipes = {fd: inode for fd, inode, _ in open_pipes(one.pid)}
        assert pipes[0] == os.fstat(one.stdin.fileno()).st_ino
        process = seen(one.pid)
        assert (process.stdin, process.reads, process.writes) == (pipes[0], {pipes[0]}, {pipes[1]})
        assert not process.terminal


def test_a_process_that_serves_a_terminal(run):
    assert seen(run("import pty; pty.openpty()").pid).terminal


def test_one_that_has_ended_or_is_not_ours_is_not_there(run):
    one = run(wait="pass")
    deadline = time.monotonic() + 30
    while one.pid in read_processes(os.getpid()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert os.getpid() not in read_processes(os.getpid())
    assert read_processes(one.pid) == {}
    assert list(open_pipes(2**22 + 1)) == []


@pytest.mark.parametrize(
    ("env", "patience_s", "ranks"),
    [
        ({"RANK": "0"}, 0.0, True),
        ({"SLURM_PROCID": "0"}, 0.0, True),
        ({"RANK": "1"}, 0.0, False),
        ({"RANK": "0", "TORCHELASTIC_RUN_ID": "x"}, 10.0, False),
        ({"RANK": "0", "TORCHELASTIC_RUN_ID": "x"}, 60.0, True),
    ],
)
def test_a_launcher_of_ranks_is_known_by_what_it_gives_them(run, env, patience_s, ranks):
    rank = f"import subprocess; one = subprocess.Popen(['sleep', '600'], env=dict(os.environ, **{env!r}))"
    launcher = run(f"signal.signal(15, lambda *_: None); {rank}")
    name, value = next(iter(env.items()))
    deadline = time.monotonic() + 30
    while f"{name}={value}".encode() not in environments(launcher.pid):  # its exec may be under way
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert bool(read_processes(os.getpid(), patience_s)[launcher.pid].ranks) is ranks
