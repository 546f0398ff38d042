"""`leptonctl logs`."""

from __future__ import annotations

import io
import json
import sys

import pytest

from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import (
    Answer,
    Stub,
    problem,
    sse,
)


def log(text: bytes, **headers: object) -> Answer:
    named = {f"X-Log-{name.replace('_', '-')}": str(value) for name, value in headers.items()}
    return Answer(pieces=[text[:3], text[3:]], headers=named)


def test_logs_come_in_parts_and_lose_what_steers_the_terminal(cli: Cli, stub: Stub):
    stub.on(
        "GET",
        "/v1/jobs/47/log",
        log("a\x1b[31mé\x1b[2J".encode(), Attempt=2, Size=14, Next_Offset=10, Dropped=0),
        log(b"b\r\n\x07c\t", Attempt=2, Size=99, Next_Offset=15, Dropped=0),
    )
    result = cli("logs", "47", "-n", "5")
    assert result.out == "aéb\nc\t"
    assert [asked.query for asked in stub.asked] == [{"tail": "5"}, {"attempt": "2", "offset": "10"}]


def test_raw_logs_are_the_bytes(cli: Cli, stub: Stub, monkeypatch):
    stub.on("GET", "/v1/jobs/47/log", log(b"\xff\x1b[2J\x00", Attempt=1, Size=6, Next_Offset=6, Dropped=0))
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out))
    cli("logs", "47.1", "--raw")
    assert out.getvalue() == b"\xff\x1b[2J\x00"
    assert stub.asked[-1].query == {"attempt": "1"}


def test_logs_as_json(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs/47/log", log(b"abc\n", Attempt=1, Size=4, Next_Offset=4, Dropped=9))
    assert json.loads(cli("logs", "47", "--json").out) == {
        "ref": "47",
        "attempt": 1,
        "size_bytes": 4,
        "next_offset": 4,
        "dropped_bytes": 9,
        "text": "abc\n",
    }


def test_followed_logs_go_through_attempts_and_gaps(cli: Cli, stub: Stub):
    stub.on(
        "GET",
        "/v1/jobs/47/log/stream",
        sse(
            ("log.attempt", {"number": 1}, "1:0"),
            ("log.chunk", {"attempt": 1, "offset": 0, "text": "one\n"}, "1:4"),
            ("log.gap", {"attempt": 1, "dropped_bytes": 2048, "next_offset": 2052}),
            ("log.attempt", {"number": 2}, "2:0"),
        ),
        sse(
            ("log.attempt", {"number": 2}, "2:0"),
            ("log.chunk", {"attempt": 2, "offset": 0, "text": "two\n"}, "2:4"),
            ("end", {"state": "succeeded"}),
        ),
    )
    result = cli("logs", "-f", "47")
    assert result.out == "one\ntwo\n"
    assert result.err.count("-- attempt 2 --") == 1
    assert "2 KiB of output were not kept" in result.err
    assert "lost" in result.err


def test_logs_that_are_cut_off_are_not_passed_off_as_whole(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs/47/log", Answer(pieces=[b"abc"], headers={"Content-Length": "9"}))
    result = cli("logs", "47")
    assert (result.code, result.out) == (69, "abc")
    assert "6 bytes are missing" in result.err


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_output_that_was_removed_is_said_so(cli: Cli, stub: Stub, more):
    stub.on("GET", "/v1/jobs/47/log", problem(404, "the output of job 47, attempt 1, is not there any more"))
    result = cli("logs", "47", *more)
    assert (result.code, "not there any more" in result.err + result.out) == (3, True)
    stub.on(
        "GET",
        "/v1/jobs/47/log/stream",
        sse(
            ("log.attempt", {"number": 1}, "1:0"),
            ("log.removed", {"attempt": 1, "bytes": 98}),
            ("end", {"state": "succeeded"}),
        ),
    )
    result = cli("logs", "-f", "47", *more)
    assert (result.code, "removed" in result.err + result.out) == (3, True)


def test_logs_of_a_job_that_has_not_started(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs/47/log", problem(404, "job 47 has not started yet"))
    result = cli("logs", "47")
    assert result.code == 3
    assert "has not started" in result.err
