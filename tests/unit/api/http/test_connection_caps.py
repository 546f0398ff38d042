"""Nobody is shut out by others, and nobody fills the log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

import pytest
import structlog

from leptond.api.http.connection import Caps, ClientFaults, Connections, holder_of
from tests.unit.api.conftest import PATIENCE_S

OWN = os.geteuid()
FEW = Caps(active=20, of_one=8, of_address=5, reserve=3, waits=10, waits_of_one=6, refusals=2)
ANN, BEN = OWN + 1000, OWN + 1001


def opened(connections, uid, count):
    return sum(connections.admit(uid) for _ in range(count))


def test_each_user_has_a_share():
    connections = Connections(FEW, ClientFaults())
    assert opened(connections, ANN, 100) == FEW.of_one
    assert opened(connections, BEN, 100) == FEW.of_one
    assert opened(connections, 0 if OWN else OWN + 7, 100) == FEW.active - 2 * FEW.of_one


def test_each_address_has_a_share_of_that_of_all():
    connections = Connections(FEW, ClientFaults())
    assert opened(connections, "192.0.2.1", 100) == FEW.of_address
    assert opened(connections, "192.0.2.2", 100) == FEW.of_one - FEW.of_address
    assert opened(connections, ANN, 100) == FEW.of_one
    for address, most in (("192.0.2.1", 4), ("192.0.2.2", 2)):  # of 6 requests that may wait, as 5 of 8
        waiting = 0
        while connections.active[address] and connections.begin_wait(address):
            waiting += 1
        assert waiting == most


class Transport:
    def __init__(self, *peername):
        self._peername = peername or None

    def get_extra_info(self, name):
        return self._peername if name == "peername" else None


@pytest.mark.parametrize(
    ("peername", "holder"),
    [
        (("192.0.2.7", 4000), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 4000, 0, 0), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.7", 4000, 0, 0), "192.0.2.7"),
        (("fe80::1%eth0", 4000, 0, 2), "fe80::/64"),
        ((), ""),
    ],
)
def test_a_client_over_tcp_is_known_by_its_address(peername, holder):
    assert holder_of(Transport(*peername)) == holder


def test_root_and_the_daemons_user_have_a_reserve():
    connections = Connections(FEW, ClientFaults())
    for uid in range(ANN, ANN + 100):
        connections.admit(uid)
    assert not connections.admit(ANN + 200)
    assert opened(connections, OWN, 100) == FEW.reserve
    if OWN:
        assert opened(connections, 0, 100) == FEW.reserve


def test_the_daemons_user_may_have_all_that_is_free():
    connections = Connections(FEW, ClientFaults())
    assert opened(connections, OWN, 100) == FEW.active


def test_waits_are_counted_apart():
    connections = Connections(FEW, ClientFaults())
    for _ in range(FEW.waits_of_one):
        assert connections.admit(ANN)
        assert connections.begin_wait(ANN)
    assert connections.admit(ANN)
    assert not connections.begin_wait(ANN)
    assert (connections.active[ANN], connections.waiting[ANN]) == (1, FEW.waits_of_one)
    assert opened(connections, ANN, 100) == FEW.of_one - 1
    connections.end_wait(ANN)
    connections.end(ANN)
    assert connections.begin_wait(ANN)


@pytest.mark.parametrize("soft", [256, 1024, 4096, 1 << 20])
def test_the_caps_fit_the_limit_of_open_files(soft, monkeypatch):
    monkeypatch.setattr("resource.getrlimit", lambda which: (soft, soft))
    caps = Caps.of_process()
    assert caps.active + caps.waits + caps.refusals <= max(192, soft - 256)
    if soft >= 1024:
        assert caps.waits_of_one > 300


@pytest.fixture
def caps():
    return Caps(active=6, of_one=6, reserve=4, waits=400, waits_of_one=400, refusals=3)


async def opened_connections(world, count):
    return [await asyncio.open_unix_connection(str(world.context.places.socket)) for _ in range(count)]


async def test_one_too_many_is_told_to_come_back(world):
    kept = await opened_connections(world, 6)
    async with asyncio.timeout(PATIENCE_S):
        answer = await world.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 2" in head
    assert b"/problems/unavailable" in body
    for _, writer in kept:
        writer.close()
    deadline = time.monotonic() + PATIENCE_S
    while b" 200 " not in await world.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
        assert time.monotonic() < deadline


async def test_a_connection_on_which_nothing_is_asked_gives_way(world):
    kept = await opened_connections(world, 6)
    for reader, writer in kept:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in await reader.readline()
    while len(world.connections.idle_of(OWN)) < 6:
        await asyncio.sleep(0)
    for _ in range(3):
        answer = await world.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b" 200 " in answer
    reader, _ = kept[0]
    async with asyncio.timeout(PATIENCE_S):
        with contextlib.suppress(ConnectionError):
            assert await reader.read(), "the oldest has gone"
    assert world.connections.active[OWN] <= 6
    for _, writer in kept:
        writer.close()


async def test_waiting_clients_shut_nobody_out_and_all_are_woken(world):
    job = await world.submit(hold=True)
    head = f"GET /v1/jobs/{job}?wait_s=60 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    waiting = []
    for _ in range(300):
        (reader, writer), *_ = await opened_connections(world, 1)
        writer.write(head)
        waiting.append((reader, writer))
        while world.connections.waiting[OWN] < len(waiting):
            await asyncio.sleep(0)
    reads = []
    inner = world.store.look

    async def counted(query, *args, **more):
        reads.append(query)
        return await inner(query, *args, **more)

    world.store.look = counted
    assert (await world.get("/v1/status")).status == 200
    other = await world.submit()
    assert len(reads) < len(waiting) / 3, "a commit wakes one look, not one for each that waits"
    assert (await world.post(f"/v1/jobs/{job}/cancel")).status == 202
    async with asyncio.timeout(PATIENCE_S):
        answers = await asyncio.gather(*(reader.read() for reader, _ in waiting))
    assert all(b'"state":"cancelled"' in answer for answer in answers)
    assert other
    for _, writer in waiting:
        writer.close()


async def test_what_clients_do_wrong_is_one_line(world):
    with structlog.testing.capture_logs() as logs:
        for number in range(30):
            await world.raw(b"\x16\x03\x01 nonsense %d\r\n\r\n" % number, end=True)
            _, writer = await asyncio.open_unix_connection(str(world.context.places.socket))
            writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n")
            writer.write(b"Content-Type: application/json\r\n\r\n{")
            await writer.drain()
            while world.busy() == 0:
                await asyncio.sleep(0)
            writer.transport.abort()
            while world.busy():
                await asyncio.sleep(0)
        assert logs == []
        world.connections.faults.report()
    assert [(one["event"], one["malformed"], one["left"]) for one in logs] == [("http.client_faults", 30, 30)]


async def test_a_header_that_cannot_be_repeated_is_a_fault_of_the_client(world):
    with structlog.testing.capture_logs() as logs:
        answer = await world.raw(b"PUT /v1/jobs HTTP/1.1\r\nHost: x\r\nExpect: \xaf\r\n\r\n")
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert logs == []


async def test_what_is_no_http_gets_a_problem(world):
    answer = await world.raw(b"nonsense\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert b"application/problem+json" in head
    assert b"/problems/bad-request" in body
