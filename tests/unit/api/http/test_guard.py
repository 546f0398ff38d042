"""Hosts, targets and tokens, before any handler is called."""

import asyncio
import socket

import aiohttp
import msgspec
import pytest

from leptond.api.http.guard import host_of
from leptond.config import HttpSettings
from tests.unit.api.conftest import PATIENCE_S


@pytest.mark.parametrize(
    ("authority", "found"),
    [
        ("localhost:8370", "localhost"),
        ("LOCALHOST", "localhost"),
        ("[::1]:8370", "[::1]"),
        ("[::1]", "[::1]"),
        ("evil.example:80", "evil.example"),
        ("localhost:1@evil.example", None),
        ("localhost@evil.example", None),
        ("user:pw@localhost", None),
        ("localhost:", None),
        ("localhost:x", None),
        ("localhost:99999", None),
        ("localhost:\uff11", None),
        ("localhost:80:80", None),
        ("localhost/", None),
        ("localhost, evil.example", None),
        ("localhost evil", None),
        ("localhost\t", None),
        ("localhost.", "localhost."),
        ("[::1", None),
        ("::1", None),
        ("[::1]x", None),
        ("[::1%25lo]", None),
        ("[::1]evil.example", None),
        ("", None),
        (":80", None),
    ],
)
def test_an_authority_is_a_host_and_digits(authority, found):
    assert host_of(authority) == found


@pytest.fixture
def settings(settings):
    return msgspec.structs.replace(
        settings, http=HttpSettings(listen="127.0.0.1:0", allowed_hosts=["Box.lan"])
    )


def ask(world, head):
    """The status of the answer to a request over TCP."""

    def run():
        with socket.create_connection(("127.0.0.1", world.api.port), timeout=PATIENCE_S) as raw:
            raw.sendall(head.replace("TOKEN", "Authorization: Bearer lept_good").encode("latin-1"))
            answer = raw.recv(65536)
        return int(answer.split(b" ")[1])

    return run


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTOKEN", 200),
        ("GET /v1/jobs HTTP/1.1\r\nHost: BOX.LAN:1234\r\nTOKEN", 200),
        ("GET /v1/jobs HTTP/1.1\r\nHost: [::1]:80\r\nTOKEN", 200),
        ("GET http://localhost:8370/v1/jobs HTTP/1.1\r\nHost: localhost\r\nTOKEN", 200),
        ("GET http://evil.example/v1/jobs HTTP/1.1\r\nHost: localhost\r\nTOKEN", 421),
        ("GET HTTP://localhost:1@evil.example/v1/jobs HTTP/1.1\r\nHost: localhost\r\nTOKEN", 421),
        ("GET http://localhost@evil.example/v1/jobs HTTP/1.1\r\nHost: localhost\r\nTOKEN", 421),
        ("GET http://localhost/v1/jobs HTTP/1.1\r\nHost: evil.example\r\nTOKEN", 421),
        ("GET ftp://localhost/v1/jobs HTTP/1.1\r\nHost: localhost\r\nTOKEN", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\nTOKEN", 400),
        ("GET /v1/jobs HTTP/1.1\r\nHost: localhost:1@evil.example\r\nTOKEN", 421),
        ("GET /v1/jobs HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost\r\nTOKEN", 421),
        ("GET /v1/jobs HTTP/1.1\r\nHost: evil.example\r\nForwarded: host=localhost\r\nTOKEN", 421),
        ("GET /v1/jobs HTTP/1.1\r\nHost: localhost.\r\nTOKEN", 421),
        ("GET /v1/jobs HTTP/1.1\r\nHost: \r\nTOKEN", 421),
        ("GET /v1/jobs HTTP/1.0\r\nTOKEN", 421),
        ("GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:1@evil.example\r\nTOKEN", 403),
        ("GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nTOKEN", 403),
    ],
)
async def test_only_our_own_hosts_are_served(world, head, status):

    assert await asyncio.to_thread(ask(world, head + "\r\n\r\n")) == status


async def test_two_host_headers_are_refused(world):

    head = "GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nTOKEN\r\n\r\n"
    assert await asyncio.to_thread(ask(world, head)) in (400, 421)


async def test_another_target_is_not_served_on_the_socket_either(world):
    answer = await world.raw(
        b"GET http://evil.example/v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    assert b" 421 " in answer.split(b"\r\n")[0]


async def test_a_wrong_token_is_called_wrong(world):

    async with aiohttp.ClientSession() as client:
        url = f"http://127.0.0.1:{world.api.port}/v1/jobs"
        async with client.get(url) as answer:
            without = await answer.json(content_type=None)
        async with client.get(url, headers={"Authorization": "Bearer lept_wrong"}) as answer:
            wrong = await answer.json(content_type=None)
            assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert without["status"] == wrong["status"] == 401
    assert "needs a token" in without["detail"]
    assert "this token is not valid" in wrong["detail"]
