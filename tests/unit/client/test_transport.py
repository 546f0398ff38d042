"""What is asked again and what is not, and streams that resume."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from leptond.client import transport
from leptond.client.errors import ApiError
from leptond.client.target import (
    Interrupted,
    Target,
    Unreachable,
)
from leptond.client.transport import Transport
from tests.unit.cli.stub import Answer, Stub, make_job, problem, sse, submitted


@pytest.fixture
def api(stub: Stub) -> Iterator[Transport]:
    with contextlib.closing(Transport(Target(path=str(stub.path)), timeout_s=10)) as one:
        yield one


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between tries the client sleeps; here time jumps instead. Not for others: a thread that an earlier test
    has left, and that looks for its daemon, would use up the patience of this one."""
    now, ours = [1000.0], threading.current_thread()

    def monotonic() -> float:
        return now[0] if threading.current_thread() is ours else time.monotonic()

    def sleep(seconds: float) -> None:
        if threading.current_thread() is ours:
            now[0] += seconds
        else:
            time.sleep(seconds)

    monkeypatch.setattr(transport, "monotonic", monotonic)
    monkeypatch.setattr(transport, "sleep", sleep)


# -- with whom --------------------------------------------------------------------------------------------


def test_a_socket_never_gets_the_token(stub: Stub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEPTOND_TOKEN", "lept_secret")
    stub.on("GET", "/v1/status", {})
    with contextlib.closing(Transport.find()) as api:
        api.get("/v1/status")
    assert "authorization" not in stub.asked[0].headers


def test_a_path_longer_than_a_socket_address_works(home: Path):
    one = Stub(home / "sock")
    deep = home / ("d" * 100) / ("e" * 50)
    deep.mkdir(parents=True)
    one.path.rename(deep / "leptond.sock")
    try:
        one.on("GET", "/v1/status", {"ok": True})
        with contextlib.closing(Transport(Target(path=str(deep / "leptond.sock")))) as api:
            assert api.get("/v1/status") == {"ok": True}
    finally:
        one.close()


# -- failures ------------------------------------------------------------------------------------------


def test_no_daemon_is_said_at_once_and_says_how_to_start_it(home: Path):
    with pytest.raises(Unreachable, match="no such file") as error:
        Transport.find().get("/v1/status")
    assert error.value.exit_code == 69
    assert "leptonctl doctor" in (error.value.hint or "")


def test_a_refused_token_comes_with_advice_for_the_command_line(api: Transport, stub: Stub, monkeypatch):
    stub.on("GET", "/v1/x", problem(401, "no", hint="send -H 'Authorization: Bearer ...'"))
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/me/.config")
    with pytest.raises(ApiError) as error:
        api.get("/v1/x")
    assert (error.value.exit_code, error.value.hint) == (
        5,
        "set LEPTOND_TOKEN to the daemon's token, or put it into /home/me/.config/leptond/token",
    )


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 1), (403, 5), (404, 3), (409, 4), (422, 1), (429, 1), (500, 1), (507, 1)],
)
def test_a_refusal_carries_the_problem_and_an_exit_code(api: Transport, stub: Stub, status, code):
    stub.on("GET", "/v1/x", problem(status, "no", hint="do this"))
    with pytest.raises(ApiError, match="no") as error:
        api.get("/v1/x")
    assert (error.value.status, error.value.exit_code, error.value.hint) == (status, code, "do this")
    assert len(stub.asked) == 1


def test_an_error_without_a_problem_body_is_still_told(api: Transport, stub: Stub):
    stub.on("GET", "/v1/x", Answer(status=502, pieces=[b"<html>Bad"]))
    with pytest.raises(ApiError, match=r"HTTP 502 .*<html>Bad"):
        api.get("/v1/x")


def test_an_answer_that_is_no_json_is_told(api: Transport, stub: Stub):
    stub.on("GET", "/v1/x", Answer(pieces=[b"hello"]))
    with pytest.raises(transport.ClientError, match="not JSON"):
        api.get("/v1/x")


def test_a_daemon_that_starts_is_waited_for(api: Transport, stub: Stub):
    stub.on("POST", "/v1/jobs/1/cancel", problem(503, "starting"), problem(503, "starting"), {"id": 1})
    assert api.post("/v1/jobs/1/cancel") == {"id": 1}


def test_but_not_for_ever(api: Transport, stub: Stub):
    stub.on("GET", "/v1/x", problem(503, "starting"))
    with pytest.raises(ApiError, match="starting") as error:
        api.get("/v1/x")
    assert error.value.exit_code == 69


def test_a_submit_is_sent_again_with_the_same_key_when_the_connection_breaks(api: Transport, stub: Stub):
    stub.on("POST", "/v1/jobs", Answer(broken=True), Answer(broken=True), submitted(7))
    assert api.post("/v1/jobs", {"argv": ["a"]}, key="k1")["id"] == 7
    assert [(a.headers["idempotency-key"], a.body) for a in stub.asked] == [("k1", {"argv": ["a"]})] * 3


def test_what_cannot_be_repeated_safely_is_not(api: Transport, stub: Stub):
    stub.on("POST", "/v1/jobs/1/retry", Answer(broken=True), {"id": 2})
    with pytest.raises(Interrupted, match="broke"):
        api.post("/v1/jobs/1/retry")
    assert len(stub.asked) == 1


def test_one_connection_serves_many_requests(api: Transport, stub: Stub):
    stub.on("GET", "/v1/x", {"n": 1})
    assert [api.get("/v1/x") for _ in range(3)] == [{"n": 1}] * 3
    api.close()


def test_pages_are_put_together(api: Transport, stub: Stub):
    def answer(asked):
        cursor = int(asked.query.get("cursor", 0))
        items = list(range(cursor, cursor + min(2, int(asked.query["limit"]))))
        return {"items": items, "next_cursor": str(cursor + 2) if cursor < 4 else None}

    stub.on("GET", "/v1/jobs", answer)
    assert api.pages("/v1/jobs", {}) == {"items": [0, 1, 2, 3, 4, 5], "next_cursor": None}
    assert api.pages("/v1/jobs", {}, limit=3)["items"] == [0, 1, 2]


# -- streams -------------------------------------------------------------------------------------------


def test_a_lost_stream_resumes_after_the_last_event(api: Transport, stub: Stub):
    told: list[transport.ClientError] = []
    stub.on(
        "GET",
        "/v1/jobs/1/log/stream",
        sse(("log.chunk", {"text": "a"}, "1:1")),
        Answer(broken=True),
        problem(503, "starting"),
        sse(("log.chunk", {"text": "b"}, "1:2"), ("end", {"state": "succeeded"})),
    )
    events = list(api.follow("/v1/jobs/1/log/stream", {"tail": 5, "attempt": 1}, on_lost=told.append))
    assert [event.type for event in events] == ["log.chunk", "log.chunk", "end"]
    assert [asked.headers.get("last-event-id") for asked in stub.asked] == [None, "1:1", "1:1", "1:1"]
    assert stub.asked[0].query == {"tail": "5", "attempt": "1"}
    assert stub.asked[-1].query == {"attempt": "1"}
    assert len(told) == 1


def test_a_stream_that_was_only_greeted_resumes_from_the_greeting(api: Transport, stub: Stub):
    stub.on("GET", "/v1/events", sse(("hello", {"last_event_id": 12})), sse(("end", {})))
    assert [event.type for event in api.follow("/v1/events")] == ["hello", "end"]
    assert stub.asked[1].headers["last-event-id"] == "12"


def test_a_stream_gives_up_in_the_end(api: Transport, stub: Stub):
    stub.on("GET", "/v1/events", sse(("hello", {"last_event_id": 1})), Answer(broken=True))
    with pytest.raises(Interrupted):
        list(api.follow("/v1/events", patience_s=20))


def test_a_stream_that_never_began_fails_at_once(api: Transport, stub: Stub):
    stub.on("GET", "/v1/events", problem(404, "no"))
    with pytest.raises(ApiError, match="no"):
        list(api.follow("/v1/events"))


def test_waiting_for_a_job_outlasts_a_restart(api: Transport, stub: Stub):
    stub.on("GET", "/v1/jobs/47", Answer(broken=True), problem(503, "starting"), make_job())
    assert api.wait_job("47", 5)["id"] == 47
    assert stub.asked[-1].query == {"wait_s": "5"}
