"""The daemon's end of a zygote, with a real one and with programs that are none."""

import asyncio
import contextlib
import os
import signal
import sys

import pytest

from leptond.engines import procs, spawning, zygote_handle
from leptond.engines.spawning import move_high
from leptond.engines.zygote_handle import ZYGOTE, ZygoteGone, ZygoteHandle

PYTHON = [sys.executable, "-I", "-S", "-X", "utf8"]
ENV = {"PATH": "/usr/bin:/bin"}


@contextlib.asynccontextmanager
async def handle(*words):
    """A handle of this program, and what was said of its loss."""
    lost: list[str] = []
    ready = asyncio.Event()
    one = ZygoteHandle([*PYTHON, *words], ENV, lambda _, why: lost.append(why), ready=ready.set)
    try:
        yield one, lost, ready
    finally:
        one.give_up("the test is over")
        async with asyncio.timeout(30):
            while procs.is_alive(one.pid):
                await asyncio.sleep(0.005)


async def within(wait):
    async with asyncio.timeout(30):
        return await wait


def descriptors():
    """What a shim gets: a gate that is shut, a launch description, a place for errors."""
    gate, theirs = os.pipe()
    os.close(gate)
    return [theirs, os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_WRONLY)]


async def test_a_zygote_forks_when_it_is_ready_and_not_before():
    async with handle(str(ZYGOTE)) as (one, lost, ready):
        with pytest.raises(ZygoteGone):
            await one.fork(ENV, [])
        await within(ready.wait())
        assert one.facts == {"ready": True}
        fds = descriptors()
        child = await within(one.fork({**ENV, "LEPTOND_SHIM": "a1"}, fds))
        for fd in fds:
            os.close(fd)
        assert child.pid != one.pid
        assert not os.get_inheritable(child.pidfd)
        await within(procs.ended(child.pidfd))
        os.close(child.pidfd)
        assert lost == []


async def test_a_zygote_that_ends_is_lost_once_and_collected():
    async with handle(str(ZYGOTE)) as (one, lost, ready):
        await within(ready.wait())
        os.kill(one.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while not lost:
                await asyncio.sleep(0.005)
        one.give_up("once more")
        assert lost == ["it has ended"]
        with pytest.raises(ZygoteGone):
            await one.fork(ENV, [])


async def test_a_zygote_that_does_not_answer_is_given_up_and_killed(monkeypatch):
    monkeypatch.setattr(zygote_handle, "ANSWER_S", 0.05)
    silent = (
        "import socket, time; one = socket.socket(fileno=3); one.send(b'{\"ready\": true}'); time.sleep(600)"
    )
    async with handle("-c", silent) as (one, lost, ready):
        await within(ready.wait())
        with pytest.raises(ZygoteGone):
            await within(one.fork(ENV, []))
        assert (lost, one.over) == (["it does not answer"], True)
        async with asyncio.timeout(30):
            while procs.is_alive(one.pid):
                await asyncio.sleep(0.005)


async def test_all_that_wait_for_a_zygote_hear_that_it_is_gone():
    dies = (
        "import socket; one = socket.socket(fileno=3); one.send(b'{\"ready\": true}'); one.recv(9999);"
        " one.recv(9999)"
    )
    async with handle("-c", dies) as (one, lost, ready):
        await within(ready.wait())
        found = await within(asyncio.gather(*(one.fork(ENV, []) for _ in range(2)), return_exceptions=True))
        assert [type(error) for error in found] == [ZygoteGone, ZygoteGone]
        assert lost == ["it has ended"]


async def test_a_fork_that_the_machine_refuses_does_not_end_the_zygote():
    full = (
        "import json, socket; one = socket.socket(fileno=3); one.send(b'{\"ready\": true}')\n"
        "while asked := one.recv(9999):"
        " one.send(json.dumps({'id': json.loads(asked)['id'], 'errno': 11}).encode())"
    )
    async with handle("-c", full) as (one, lost, ready):
        await within(ready.wait())
        for _ in range(2):
            with pytest.raises(OSError, match="temporarily unavailable"):
                await within(one.fork(ENV, []))
        assert lost == []


def test_a_moved_descriptor_is_above_those_of_a_child_and_closed_in_the_end():
    with contextlib.ExitStack() as close:
        moved = move_high(0, close)
        assert moved >= spawning.HIGH_FD
        assert not os.get_inheritable(moved)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(moved)
