"""How the two clients carry requests out when the connection breaks, the daemon is away or time is up."""

from __future__ import annotations

import inspect
import time
from pathlib import Path

import pytest

from leptond import AsyncClient, Client
from leptond.client import ApiError, Interrupted, Unreachable, sdk
from leptond.core.jobs.model import State
from tests.unit.cli.stub import Answer, Stub, ended, make_job, problem, sse, submitted

CHUNKS = (
    ("log.chunk", {"text": "begin\n"}, "1"),
    ("log.chunk", {"text": "end\n"}, "2"),
    ("end", {}),
)
EVENT = {"id": 4, "at": "2026-03-04T10:00:00Z", "type": "job.submitted", "job_id": 47, "data": {}}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The AsyncClient gives up a lost connection after two tries."""
    monkeypatch.setattr(sdk, "RECONNECT_EVERY_S", 0.01)
    monkeypatch.setattr(sdk, "RECONNECT_S", 0.02)


def test_a_refusal_has_the_daemons_message(stub: Stub):
    stub.on("GET", "/v1/jobs/47", problem(404, "there is no job 47", hint="look: leptonctl queue"))
    with Client() as lept, pytest.raises(ApiError, match="there is no job 47") as caught:
        lept.job(47)
    assert (caught.value.status, caught.value.hint) == (404, "look: leptonctl queue")


async def test_and_so_it_is_under_asyncio(stub: Stub):
    stub.on("GET", "/v1/jobs/47", problem(404, "there is no job 47", hint="look: leptonctl queue"))
    stub.on("GET", "/v1/status", Answer(pieces=[b"<h1>Bad gateway</h1>"], status=502))
    async with AsyncClient() as lept:
        with pytest.raises(ApiError, match="there is no job 47") as caught:
            await lept.job(47)
        assert (caught.value.status, caught.value.hint) == (404, "look: leptonctl queue")
        with pytest.raises(ApiError) as caught:
            await lept.status()
        assert caught.value.status == 502


async def test_a_creation_is_sent_again_with_its_key_and_another_change_is_not(stub: Stub):
    stub.on("POST", "/v1/jobs", Answer(broken=True), submitted())
    stub.on("POST", "/v1/jobs/47/hold", Answer(broken=True), make_job())
    async with AsyncClient() as lept:
        assert (await lept.submit("true")).id == 47
        first, second = stub.of("POST", "/v1/jobs")
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
        with pytest.raises(Interrupted):
            await lept.hold(47)
    assert len(stub.of("POST", "/v1/jobs/47/hold")) == 1


def test_a_client_with_patience_waits_for_a_daemon_that_is_not_there(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sdk, "RESTART_S", 0.05)
    path = home / "XDG_RUNTIME_DIR/leptond/leptond.sock"
    with Client() as lept, pytest.raises(Unreachable):
        lept.job(47)
    with Client(patience_s=0.15) as lept:
        began = time.monotonic()
        with pytest.raises(Unreachable):
            lept.job(47)
        assert time.monotonic() - began >= 0.1
    stub = Stub(path)
    try:
        stub.job()
        with Client() as lept:
            assert lept.job(47).id == 47
    finally:
        stub.close()


def test_a_wait_that_takes_too_long_says_how_the_job_is(stub: Stub):
    stub.job(state=State.RUNNING)
    with Client() as lept, pytest.raises(TimeoutError, match=r"job 47 is running after 0\.05 s"):
        lept.wait(47, timeout_s=0.05)
    assert all(float(asked.query.get("wait_s", 0)) <= 0.05 for asked in stub.asked)


async def test_a_wait_under_asyncio_outlasts_a_break_but_not_its_timeout(stub: Stub, hasty: None):
    stub.on("GET", "/v1/jobs/47", make_job(), Answer(broken=True), ended(State.SUCCEEDED))
    stub.on("GET", "/v1/jobs/48", lambda _: (time.sleep(0.3), Answer(make_job(id=48)))[1])
    stub.on("GET", "/v1/jobs/49", Answer(broken=True))
    async with AsyncClient() as lept:
        assert (await lept.wait(47)).state is State.SUCCEEDED
        with pytest.raises(TimeoutError):
            await lept.wait(48, timeout_s=0.05)
        with pytest.raises(Interrupted):
            await lept.wait(49)


def test_the_output_comes_whole_or_as_it_is_written(stub: Stub):
    stub.on("GET", "/v1/jobs/47/log", Answer(pieces=[b"begin\n", b"\xff end\n"]))
    stub.on("GET", "/v1/jobs/47/log/stream", sse(*CHUNKS))
    with Client() as lept:
        assert list(lept.logs(47, attempt=2)) == ["begin\n\ufffd end\n"]
        assert list(lept.logs(47, follow=True)) == ["begin\n", "end\n"]
    assert [asked.query for asked in stub.asked] == [{"attempt": "2"}, {}]


async def test_and_so_it_does_under_asyncio_through_a_break(stub: Stub, hasty: None):
    stub.on("GET", "/v1/jobs/47/log", Answer(pieces=[b"begin\n", b"\xff end\n"]))
    stub.on("GET", "/v1/jobs/47/log/stream", sse(CHUNKS[0]), sse(*CHUNKS[1:]))
    async with AsyncClient() as lept:
        assert [text async for text in lept.logs(47)] == ["begin\n\ufffd end\n"]
        assert [text async for text in lept.logs(47, attempt=2, follow=True)] == ["begin\n", "end\n"]
    first, second = stub.of("GET", "/v1/jobs/47/log/stream")
    assert (first.query, "last-event-id" in first.headers) == ({"attempt": "2"}, False)
    assert (second.query, second.headers["last-event-id"]) == ({}, "1")


async def test_a_stream_that_never_began_fails_at_once_and_one_that_is_lost_in_the_end(
    stub: Stub, hasty: None
):
    stub.on("GET", "/v1/jobs/47/log/stream", Answer(broken=True))
    stub.on("GET", "/v1/jobs/48/log/stream", sse(CHUNKS[0]), Answer(broken=True))
    async with AsyncClient() as lept:
        with pytest.raises(Interrupted):
            _ = [text async for text in lept.logs(47, follow=True)]
        asked = len(stub.of("GET", "/v1/jobs/47/log/stream"))
        assert asked <= 2  # aiohttp itself sends a GET once more
        with pytest.raises(Interrupted):
            _ = [text async for text in lept.logs(48, follow=True)]
    assert len(stub.of("GET", "/v1/jobs/48/log/stream")) >= 3


async def test_events_are_of_their_type_and_what_has_no_number_is_none(stub: Stub):
    stub.on("GET", "/v1/events", sse(("hello", {"last_event_id": 3}), ("job.submitted", EVENT, "4")))
    with Client() as lept:
        events = lept.events(since=3)
        assert next(events).type == "job.submitted"
        events.close()
    async with AsyncClient() as lept:
        async for event in lept.events(since=3, job=47):
            assert (event.id, event.job_id) == (4, 47)
            break
    assert [asked.query for asked in stub.asked] == [{"since": "3"}, {"since": "3", "job": "47"}]


async def test_a_daemon_elsewhere_gets_the_token_over_tcp(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEPTOND_TOKEN", "secret")
    monkeypatch.setenv("LEPTOND_HOST", "http://127.0.0.1:9")  # the discard port: nobody answers there
    async with AsyncClient() as lept:
        with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9"):
            await lept.status()
        assert lept._connections().headers["Authorization"] == "Bearer secret"


def test_closing_a_client_twice_is_harmless(stub: Stub):
    stub.job()
    lept = Client()
    lept.job(47)
    lept.close()
    lept.close()
    assert inspect.isgenerator(lept.jobs())
