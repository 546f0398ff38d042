"""Futures that are jobs: cancel and stop, events that are missed, and a daemon that is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from leptond import LeptonExecutor
from leptond.client import ApiError, JobFailed, futures
from leptond.core.jobs.states import State
from tests.unit.cli.stub import Answer, Stub, problem, sse
from tests.unit.client.calls import Calls


@pytest.fixture
def calls(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    monkeypatch.setattr(futures, "RETRY_S", 0.05)
    one = Calls(stub, monkeypatch)
    yield one
    one.close()


@pytest.fixture
def lept(calls: Calls, home: Path) -> Iterator[LeptonExecutor]:
    one = LeptonExecutor(folder=home / "calls")
    yield one
    one.shutdown(wait=False, cancel_futures=True)


def test_a_call_that_waits_is_held_and_then_cancelled(calls: Calls, lept: LeptonExecutor) -> None:
    future = lept.submit(abs, 1)
    assert "of job 47" in repr(future)
    assert future.cancel()
    assert future.cancelled()
    assert future.cancel()
    paths = [asked.path for asked in calls.stub.asked if asked.method == "POST"]
    assert paths == ["/v1/jobs", "/v1/jobs/47/hold", "/v1/jobs/47/cancel"]


def test_a_call_that_has_started_cannot_be_cancelled_but_stopped(calls: Calls, lept: LeptonExecutor) -> None:
    future = lept.submit(abs, 1)
    calls.stub.on("POST", "/v1/jobs/47/hold", problem(409, "it runs"))
    assert not future.cancel()
    future.stop(grace_s=2.0)
    assert calls.stub.of("POST", "/v1/jobs/47/cancel")[0].body == {"grace_s": 2.0}
    with pytest.raises(futures.CancelledError):
        future.result(30)
    assert future.cancelled()
    calls.stub.on("POST", "/v1/jobs/47/cancel", problem(409, "it has ended"))
    future.stop()


def test_a_job_that_the_daemon_forgot_is_a_failure(calls: Calls, lept: LeptonExecutor) -> None:
    future = lept.submit(abs, 1)
    calls.forget(47)
    with pytest.raises(JobFailed, match="does not know job 47 any more"):
        future.result(30)


def test_an_event_that_was_lost_is_made_up_for(calls: Calls, lept: LeptonExecutor) -> None:
    future = lept.submit(abs, -7)
    calls.tell = lambda number, state: None  # type: ignore[method-assign]
    calls.run(47)
    assert not future.done()
    calls._events.put(b": alive\n\n")
    assert future.result(30) == 7


def test_a_stream_that_breaks_is_opened_again(calls: Calls, lept: LeptonExecutor) -> None:
    future = lept.submit(abs, -7)
    calls.close()
    calls.run(47)
    assert future.result(30) == 7
    assert len(calls.stub.of("GET", "/v1/events")) >= 1


def test_output_and_job_of_a_future(calls: Calls, lept: LeptonExecutor) -> None:
    future = lept.submit(abs, 1)
    assert future.job.id == 47
    assert future.logs(attempt=1) == "first line\nlast line\n"
    calls.stub.on("GET", "/v1/jobs/47/log/stream", sse(("log.chunk", {"text": "a"}, "1"), ("end", {})))
    assert list(future.follow()) == ["a"]


def test_a_job_that_has_not_begun_has_no_output(calls: Calls, lept: LeptonExecutor) -> None:
    future = lept.submit(abs, 1)
    calls.stub.on("GET", "/v1/jobs/47/log", problem(404, "there is no output"))
    assert future.logs() == ""
    with pytest.raises(ApiError):
        future.logs(attempt=3)


def test_a_foreign_interpreter_is_told_what_it_lacks(calls: Calls, lept: LeptonExecutor) -> None:
    future = lept.submit(abs, 1)
    text = b"/opt/python: No module named 'leptond'\n"
    calls.stub.on("GET", "/v1/jobs/47/log", Answer(pieces=[text]))
    calls.end(47, State.FAILED, exit_code=1)
    error = future.exception(30)
    assert isinstance(error, JobFailed)
    assert error.job == calls.jobs[47]
    python = calls.jobs[47].spec.argv[0]
    assert f"{python} cannot import leptond" in str(error)
    assert "give LeptonExecutor another python=" in str(error)
