"""`leptonctl queue` and `history`."""

from __future__ import annotations

from leptond.core.jobs.model import State
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import (
    RUNNING,
    Stub,
    ended,
    make_job,
    page,
)


def test_queue_in_a_pipe_has_tabs_and_loses_nothing(cli: Cli, stub: Stub):
    long = "x" * 300
    stub.on("GET", "/v1/jobs", page(make_job(id=45, **RUNNING), make_job(id=47, reason_detail=long)))
    result = cli("queue")
    assert result.code == 0
    assert result.rows[0] == [
        "ID",
        "NAME",
        "USER",
        "GPUS",
        "PRI",
        "STATE",
        "TIME",
        "LIMIT",
        "STARTS",
        "REASON",
    ]
    assert result.rows[1][:6] == ["45", "train.py", "ana", "0,1", "0", "running"]
    assert result.rows[1][7:] == ["3600", "-", "-"]
    assert float(result.rows[1][6]) > 0
    assert result.rows[2][3:6] == ["1", "0", "pending"]
    assert result.rows[2][9] == f"Resources: {long}"
    assert cli("ps", "--no-header").rows[0][0] == "45"


def test_queue_asks_for_the_queue_in_its_order(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs", page())
    cli("queue", "--user", "bo", "--label", "a=b", "--array", "47", "-n", "3")
    assert stub.asked[-1].query == {
        "state": "pending,starting,running,stopping",
        "user": "bo",
        "label": "a=b",
        "array": "47",
        "order": "queue",
        "limit": "3",
    }


def test_an_empty_queue_teaches_the_first_submit(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs", page())
    result = cli("queue")
    assert len(result.rows) == 1
    assert "leptonctl submit --gpus 1" in result.err


def test_names_cannot_steer_the_terminal(cli: Cli, stub: Stub):
    evil = make_job(name="a\x1b]0;pwned\x07b\tc\nd\u202ee", user="\x9b2J", reason_detail="x\ry")
    stub.on("GET", "/v1/jobs", page(evil))
    result = cli("queue", "--no-header")
    assert result.out.count("\n") == 1
    assert result.rows[0][1:3] == ["a]0;pwnedb c de", "2J"]
    # JSON escapes what is not ASCII
    assert cli("queue", "--json").out.isascii()


def test_history_is_of_the_ended_newest_first(cli: Cli, stub: Stub):
    job = ended(State.TIMED_OUT, signal="SIGTERM", gpu_seconds=5400.0, attempt=2)
    stub.on("GET", "/v1/jobs", page(job))
    result = cli("history", "--since", "2026-03-01T00:00:00Z", "--state", "timed_out", "-n", "5")
    assert stub.asked[-1].query == {
        "state": "timed_out",
        "since": "2026-03-01T00:00:00Z",
        "order": "newest",
        "limit": "5",
    }
    row = dict(zip(*result.rows, strict=True))
    assert (row["EXIT"], row["TRIES"], row["GPU-H"], row["TIME"]) == ("SIGTERM", "2", "1.5", "4.500")
    assert row["ENDED"] == "2026-03-04T10:00:00Z"


def test_lists_are_narrowed_by_a_contact(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs", page())
    for command in ("queue", "history", "export"):
        cli(command, "--contact", "Ana, #night")
        assert stub.asked[-1].query["contact"] == "Ana, #night"
        cli(command)
        assert "contact" not in stub.asked[-1].query
