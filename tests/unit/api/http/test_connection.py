"""Connections on which nothing comes, or too little, are not kept."""

import time

import msgspec
import pytest

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
