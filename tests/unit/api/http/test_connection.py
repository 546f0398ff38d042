"""Connections on which nothing comes, or too little, are not kept."""

import asyncio
import time

import msgspec
import pytest

from leptond.api.http import connection
from leptond.config import HttpSettings

HEADER_S, REQUEST_S = 0.3, 0.6


@pytest.fixture
def header_s() -> float:
    return HEADER_S


@pytest.fixture
def settings(settings):
    return msgspec.structs.replace(settings, http=HttpSettings(request_timeout_s=REQUEST_S))


@pytest.mark.parametrize(
    "half",
    [b"", b"GET /healthz HTT", b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n"],
    ids=["nothing", "line", "head"],
)
async def test_a_half_request_is_not_waited_for(world, half):
    begin = time.monotonic()
    assert await world.raw(half) == b"", "closed without an answer"
    assert time.monotonic() - begin >= HEADER_S - 0.05


async def test_a_half_body_is_not_waited_for(world):
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100"
    )
    begin = time.monotonic()
    answer = await world.raw(head + b"\r\n\r\n{")
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert time.monotonic() - begin >= REQUEST_S - 0.05


async def test_the_body_of_a_request_that_may_wait_has_a_deadline_too(world):
    head = b"POST /v1/jobs:cancel HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    answer = await world.raw(head + b"Content-Length: 100\r\n\r\n{")
    assert b" 408 " in answer.split(b"\r\n")[0]


async def test_a_client_that_does_not_read_its_answers_is_dropped(world, monkeypatch):
    monkeypatch.setattr(connection, "BLOCKED_S", 0.3)
    await world.get("/v1/openapi.json")
    reader, writer = await asyncio.open_unix_connection(str(world.context.places.socket), limit=1)
    reader._transport.pause_reading()
    for _ in range(60):
        writer.write(b"GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(60):
        while world.connections.faults.total["slow"] == 0:
            await asyncio.sleep(0.02)
    writer.close()
    assert (await world.get("/v1/status")).status == 200


async def test_too_many_headers_are_refused(world):
    many = {f"X-{number}": "y" for number in range(70)}
    refused = await world.request("GET", "/v1/status", headers=many)
    assert (refused.status, refused.json["type"]) == (431, "/problems/head-too-large")
    long = {f"X-{number}": "y" * 4000 for number in range(5)}
    assert (await world.request("GET", "/v1/status", headers=long)).status == 431
