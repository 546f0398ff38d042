"""The states of a shim, and what becomes of one that does not do its work."""

import asyncio
import os
import signal
import socket
import subprocess

import pytest

from leptond.core.jobs.model import Identity
from leptond.engines import procs
from leptond.engines.gate import Gate
from leptond.engines.shim_handle import MOVES, Process, ShimHandle, ShimState, WrongMove

S = ShimState


@pytest.fixture
def process():
    one = subprocess.Popen(["sleep", "600"])
    yield one
    one.kill()
    one.wait()


def handle(process: subprocess.Popen, state: ShimState) -> tuple[ShimHandle, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    identity = Process(process.pid, procs.start_ticks(process.pid), os.pidfd_open(process.pid))
    return ShimHandle(identity, Gate(ours), None, state), theirs


def test_every_state_has_its_moves_and_lost_is_the_last():
    assert set(MOVES) == set(S)
    assert all(S.LOST in after for state, after in MOVES.items() if state is not S.LOST)
    assert MOVES[S.LOST] == frozenset()


@pytest.mark.parametrize("before", S)
@pytest.mark.parametrize("after", S)
def test_a_move_is_checked(before, after):
    shim = ShimHandle(Process(pid=1, start_ticks=1, pidfd=-1), None, None, before)
    if after in MOVES[before]:
        shim.move(after)
        assert shim.state is after
    else:
        with pytest.raises(WrongMove, match=f"from {before.value} to {after.value}"):
            shim.move(after)
        assert shim.state is before


async def test_an_idle_shim_keeps_nothing_of_its_attempt(process):
    shim, theirs = handle(process, S.ENDED)
    shim.port, shim.start_mode = 20001, "warm"
    shim.command = Identity(boot_id="b", pid=1, start_ticks=1)
    called = asyncio.Event()
    shim.later(0.0, called.set)
    shim.move(S.RESTING)
    assert (shim.port, shim.start_mode, shim.command) == (None, None, None)
    await asyncio.sleep(0.01)  # the timer would have been due before this one
    assert not called.is_set()
    shim.close()
    theirs.close()


async def test_closing_shuts_gate_and_pidfd_and_is_done_once(process):
    shim, theirs = handle(process, S.AT_GATE)
    called = asyncio.Event()
    shim.later(0.0, called.set)
    shim.close()
    assert (shim.state, shim.gate, theirs.recv(1)) == (S.LOST, None, b"")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(shim.pidfd)
    shim.close()
    await asyncio.sleep(0.01)  # the timer would have been due before this one
    assert not called.is_set()
    assert process.poll() is None, "it is let go, not killed"
    theirs.close()


def test_a_shim_that_was_stopped_is_killed_and_one_that_runs_is_not(process):
    shim, theirs = handle(process, S.RUNNING)
    shim.kill_if_stopped()
    assert not shim.has_ended
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    shim.kill_if_stopped()
    assert process.wait(30) == -signal.SIGKILL
    assert shim.has_ended
    shim.close()
    theirs.close()
