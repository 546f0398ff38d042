"""The daemon's end of a gate."""

import asyncio
import socket

import pytest

from leptond.engines import protocol
from leptond.engines.gate import Gate


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield Gate(ours), theirs
    ours.close()
    theirs.close()


async def test_messages_come_one_by_one_however_they_arrive(ends):
    gate, shim = ends
    shim.sendall(b"READY 42\nSTAR")
    assert await gate.receive() == (protocol.READY, "42")
    waits = asyncio.ensure_future(gate.receive())
    await asyncio.sleep(0)
    shim.sendall(b"TED 7 warm\nENDED {}\n")
    assert await waits == (protocol.STARTED, "7 warm")
    assert await gate.receive() == (protocol.ENDED, "{}")


async def test_the_end_of_the_shim_is_an_empty_message(ends):
    gate, shim = ends
    shim.sendall(b"ENDED {")
    shim.close()
    assert await gate.receive() == ("", "")


async def test_nothing_is_sent_to_a_shim_that_is_gone(ends):
    gate, shim = ends
    assert gate.send(protocol.GO, "{}") is True
    assert shim.recv(100) == b"GO {}\n"
    shim.close()
    assert gate.send(protocol.BOOKED) is False


async def test_a_shut_gate_is_the_end_of_file_for_the_shim(ends):
    gate, shim = ends
    gate.close()
    assert shim.recv(100) == b""
