"""Event streams, behind a real server."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from leptond.api.http import sse
from leptond.api.http.sse import last_event_id, open_stream


async def streamed(send):
    """The headers and the bytes of a stream that `send` fills."""

    async def handle(request):
        stream = await open_stream(request)
        await send(stream)
        return stream.response

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestClient(TestServer(app)) as client, client.get("/") as response:
        return response.headers, await response.read()


async def test_an_event_is_its_lines_and_a_blank_one():
    async def send(stream):
        await stream.send("hello", {"last_event_id": 3})
        await stream.ping()
        await stream.send("job.ended", {"text": "a\nb\u2028c"}, id=4)

    headers, data = await streamed(send)
    assert data.decode() == (
        'event: hello\ndata: {"last_event_id":3}\n\n'
        ": ping\n\n"
        'id: 4\nevent: job.ended\ndata: {"text":"a\\nb\u2028c"}\n\n'
    )
    assert headers["Content-Type"].startswith("text/event-stream")
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Accel-Buffering"] == "no", "a proxy passes each event on at once"
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_a_reader_that_does_not_read_is_dropped(monkeypatch):
    monkeypatch.setattr(sse, "BLOCKED_S", 0.1)
    dropped = asyncio.get_running_loop().create_future()

    async def handle(request):
        stream = await open_stream(request)
        try:
            while True:
                await stream.send("much", "x" * 100_000)
        except TimeoutError as error:
            dropped.set_result(error)
            raise

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestServer(app) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(30):
            assert isinstance(await dropped, TimeoutError)
        writer.transport.abort()


@pytest.mark.parametrize(("value", "found"), [("12", "12"), (" 12 ", "12"), ("", None), ("  ", None)])
def test_a_reader_resumes_behind_what_it_had(value, found):
    assert last_event_id(make_mocked_request("GET", "/", headers={"Last-Event-ID": value})) == found
    assert last_event_id(make_mocked_request("GET", "/")) is None
