"""What the demonstration sends to its daemon, and what it prints of its jobs, against a stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from leptond import schema
from leptond.client.target import Target
from leptond.client.transport import Transport
from leptond.core.jobs.states import State
from leptond.demo import sandbox as module
from leptond.demo.sandbox import DemoFailed, DemoJob, Sandbox
from tests.unit.cli.conftest import home, stub
from tests.unit.cli.stub import RUNNING, Answer, Stub, ended, make_job, page

__all__ = ["home", "stub"]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def sandbox(tmp_path: Path, stub: Stub, said: list[str]) -> Iterator[Sandbox]:
    one = Sandbox(tmp_path, 2, said.append)
    one.api = Transport(Target(path=str(stub.path)))
    yield one
    one.api.close()


def demo_job() -> DemoJob:
    return DemoJob(
        name="train",
        shows="a training",
        argv=["python", "x.py", "--metrics-file", "METRICS"],
        spec={"gpus": 1},
        expected="succeeded",
        checks=lambda sandbox, job: iter(()),
    )


def test_all_jobs_are_queued_in_one_call(sandbox: Sandbox, stub: Stub, tmp_path: Path) -> None:
    made = schema.Submitted(id=47, ids=[47], name="train", state=State.PENDING)
    stub.on("POST", "/v1/jobs:batch", schema.BatchSubmitted(jobs=[made]))
    one = demo_job()
    sandbox.submit([one])
    (body,) = stub.asked[-1].body["jobs"]
    assert one.id == 47
    assert body["argv"][-1] == str(tmp_path / "train.jsonl")
    assert (body["gpus"], body["env"]["TMPDIR"]) == (1, str(tmp_path))


def test_it_is_watched_until_every_job_has_ended(sandbox: Sandbox, stub: Stub, said: list[str]) -> None:
    one = demo_job()
    one.id = 47
    stub.on("GET", "/v1/jobs", page(make_job()), page(make_job(**RUNNING)), page(ended(State.SUCCEEDED)))
    log = b"Traceback (most recent call last):\n  File x\nValueError: no\nhalf a li"
    stub.on("GET", "/v1/jobs/47/log", Answer(pieces=[log]), Answer(pieces=[b"half a line\n"]))
    sandbox.watch([one])
    texts = [line.partition("s  ")[2] for line in said]
    assert texts == [
        "train        | ValueError: no",
        "train        running on GPU 0, GPU 1 (attempt 1)",
        "train        | half a line",
        "train        succeeded: how it ended",
    ]
    offsets = [asked.query["offset"] for asked in stub.of("GET", "/v1/jobs/47/log")]
    assert offsets == ["0", str(len(log) - len(b"half a li"))]


def test_it_does_not_watch_for_ever(sandbox: Sandbox, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    one = demo_job()
    one.id = 47
    monkeypatch.setattr(module, "LIMIT_S", 0.1)
    stub.on("GET", "/v1/jobs", page(make_job()))
    with pytest.raises(DemoFailed, match="did not end within"):
        sandbox.watch([one])


def test_the_reports_of_a_job_are_lines_of_json(sandbox: Sandbox, tmp_path: Path) -> None:
    one = demo_job()
    one.metrics = tmp_path / "train.jsonl"
    assert sandbox.reports(one) == []
    one.metrics.write_text('{"loss": 1}\n{"loss": 2}\n')
    assert sandbox.reports(one) == [{"loss": 1}, {"loss": 2}]


def test_the_output_is_that_of_an_attempt(sandbox: Sandbox, stub: Stub) -> None:
    stub.on("GET", "/v1/jobs/47/log", Answer(pieces=[b"\xff hi\n"]))
    assert sandbox.output({"id": 47}, 2) == "\ufffd hi\n"
    assert stub.asked[-1].query == {"attempt": "2"}
