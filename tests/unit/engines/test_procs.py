"""What is left of an attempt is found whatever it did to hide, and nobody else is touched."""

import asyncio
import contextlib
import errno
import fcntl
import os
import resource
import secrets
import signal
import subprocess
import sys

import pytest

from leptond.base import procfs
from leptond.base.clock import kernel_boot_id
from leptond.core.jobs.model import Identity
from leptond.engines import procs
from leptond.engines.shim.command import RLIMIT_LOCKS

SLEEP = "import sys, time; print('up', flush=True); time.sleep(600)"


def start(attempt_id: str, *, tagged: bool = True, env: dict[str, str] | None = None, code: str = SLEEP):
    """A process as it looks when its shim has died."""

    def tag() -> None:
        if tagged:
            number = procs.tag_of(attempt_id)
            resource.setrlimit(RLIMIT_LOCKS, (number, number))

    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code],
        stdout=subprocess.PIPE,
        env=env or {},
        preexec_fn=tag,
        start_new_session=True,
    )
    process.stdout.readline()
    return process


@pytest.fixture
def attempt_id():
    return secrets.token_hex(16)


@pytest.fixture
def one(attempt_id):
    process = start(attempt_id)
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_tag_says_the_attempt(attempt_id):
    assert attempt_id.startswith(procs.attempt_of_tag(procs.tag_of(attempt_id)))
    for nobody in (0, 1, 10_000, 2**63 - 1, 2**64 - 1):
        assert procs.attempt_of_tag(nobody) is None


async def test_a_process_without_cookie_session_or_parent_is_found_and_ended(attempt_id, one):
    other = start(secrets.token_hex(16))
    try:
        assert procs.tags()[one.pid] == attempt_id[: procs.TAG_DIGITS]
        assert set(procs.remains(attempt_id, None)) == {one.pid}
        # the test is its parent, so its end is seen by a poll and not collected by anyone else
        assert await procs.end_remains(attempt_id, None, grace_s=0, limit_s=30) == 0
        assert procs.start_ticks(one.pid) is None, "collected, because it is a child of ours"
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    one.returncode = -9


async def test_a_cookie_alone_is_enough(attempt_id):
    process = start(attempt_id, tagged=False, env={procs.COOKIE: attempt_id})
    assert set(procs.remains(attempt_id, None)) == {process.pid}
    ended: list[int] = []
    assert await procs.end_remains(attempt_id, None, grace_s=0, limit_s=30, note=ended.append) == 0
    assert ended == [process.pid], "noted once"
    process.stdout.close()
    process.returncode = -9


def test_a_process_whose_main_thread_has_ended_is_alive(attempt_id):
    code = """
import ctypes, threading, time
def go_on():
    time.sleep(0.05)  # lets the main thread go
    while open(f"/proc/self/stat").read().rpartition(") ")[2][0] != "Z":
        time.sleep(0.01)
    print("up", flush=True)
    time.sleep(600)
threading.Thread(target=go_on).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    process = start(attempt_id, code=code)
    try:
        assert procs.is_alive(process.pid)
        assert set(procs.remains(attempt_id, None)) == {process.pid}
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert not procs.is_alive(process.pid)


def test_another_process_with_the_pid_is_not_pinned(one):
    ticks = procs.start_ticks(one.pid)
    right = Identity(boot_id=kernel_boot_id(), pid=one.pid, start_ticks=ticks)
    pidfd = procs.pin(right)
    assert procs.send(pidfd, 0)
    os.close(pidfd)
    assert procs.pin(Identity(boot_id=kernel_boot_id(), pid=one.pid, start_ticks=ticks + 1)) is None
    assert procs.pin(Identity(boot_id="another", pid=one.pid, start_ticks=ticks)) is None


def test_a_process_is_watched_by_a_descriptor_above_1023(one):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("this user may not have so many descriptors")
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    low = os.pidfd_open(one.pid)
    high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 1500)
    try:
        assert not procs.has_ended(high)
        one.kill()
        one.wait()
        assert procs.has_ended(high)
    finally:
        os.close(low)
        os.close(high)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def no_descriptors_left():
    """Whatever is opened here fails with EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_that_cannot_be_looked_at_is_not_gone(attempt_id, one):
    right = Identity(boot_id=kernel_boot_id(), pid=one.pid, start_ticks=procs.start_ticks(one.pid))
    for look in (
        lambda: procs.pin(right),
        lambda: procs.is_alive(one.pid),
        lambda: procs.start_ticks(one.pid),
        lambda: procs.attempt_of(one.pid),
    ):
        with no_descriptors_left(), pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            look()


def test_an_attempt_is_not_over_while_nobody_can_look(attempt_id, one):
    async def look():
        with no_descriptors_left():
            return await procs.end_remains(attempt_id, None, grace_s=0.0, limit_s=0.2)

    assert asyncio.run(look()) == 1
    assert procs.is_alive(one.pid)


def test_the_session_of_somebody_else_is_not_ours(attempt_id, one):
    ticks = procs.start_ticks(one.pid)
    boot_id = kernel_boot_id()
    nobody = secrets.token_hex(16)
    mine = procs.remains(nobody, Identity(boot_id=boot_id, pid=one.pid, start_ticks=ticks))
    assert set(mine) == {one.pid}
    reused = procs.remains(nobody, Identity(boot_id=boot_id, pid=one.pid, start_ticks=ticks - 1))
    assert reused == {}


DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid(), flush=True)
    time.sleep(600)
{then}
"""


def test_a_session_without_its_leader_is_nobodys(attempt_id):
    """A number that a command had is used again by a program that does what daemons do."""
    leader = start(attempt_id, tagged=False, code=DAEMON.format(then="os._exit(0)"))
    ticks = procs.start_ticks(leader.pid)
    leader.wait()
    child = next(
        pid for pid in procs.all_pids() if (stat := procfs.read_stat(pid)) and stat.session == leader.pid
    )
    try:
        for command in (ticks, ticks - 1):
            main = Identity(boot_id=kernel_boot_id(), pid=leader.pid, start_ticks=command)
            assert procs.remains(attempt_id, main) == {}
            assert asyncio.run(procs.end_remains(attempt_id, main, grace_s=0, limit_s=1)) == 0
        assert procs.is_alive(child)
    finally:
        os.kill(child, signal.SIGKILL)
        leader.stdout.close()


def test_what_was_seen_in_the_session_of_the_command_is_ended_after_it(attempt_id):
    leader = start(attempt_id, tagged=False, code=DAEMON.format(then="time.sleep(600)"))
    ticks = procs.start_ticks(leader.pid)
    main = Identity(boot_id=kernel_boot_id(), pid=leader.pid, start_ticks=ticks)
    known: dict[int, int] = {}
    child = next(pid for pid in procs.remains(attempt_id, main, known) if pid != leader.pid)
    leader.kill()
    leader.wait()
    assert set(procs.remains(attempt_id, main, known)) == {child}
    assert procs.remains(attempt_id, main) == {}
    os.kill(child, signal.SIGKILL)
    leader.stdout.close()


async def test_the_session_of_a_command_is_ended_to_the_last(attempt_id):
    leader = start(attempt_id, tagged=False, code=DAEMON.format(then="time.sleep(600)"))
    main = Identity(boot_id=kernel_boot_id(), pid=leader.pid, start_ticks=procs.start_ticks(leader.pid))
    members = set(procs.remains(attempt_id, main))
    assert len(members) == 2
    assert await procs.end_remains(attempt_id, main, grace_s=0.2, limit_s=30) == 0, "one ignores SIGTERM"
    assert not any(procs.is_alive(pid) for pid in members)
    leader.stdout.close()
    leader.returncode = -9


def test_a_stopped_process_is_seen(one):
    assert not procs.is_stopped(one.pid)
    one.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, one.pid, os.WSTOPPED)
    assert procs.is_stopped(one.pid)


def test_a_process_that_merely_has_the_pid_is_not_the_one():
    innocent = subprocess.Popen(["sleep", "600"])
    try:
        ticks = procs.start_ticks(innocent.pid)
        right = Identity(boot_id=kernel_boot_id(), pid=innocent.pid, start_ticks=ticks)
        pidfd = procs.pin(right)
        assert pidfd is not None
        os.close(pidfd)
        earlier = Identity(boot_id=kernel_boot_id(), pid=innocent.pid, start_ticks=ticks - 1)
        assert procs.pin(earlier) is None
        before_the_reboot = Identity(boot_id="another", pid=innocent.pid, start_ticks=ticks)
        assert procs.pin(before_the_reboot) is None
    finally:
        innocent.kill()
        innocent.wait()
