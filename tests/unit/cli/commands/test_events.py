"""`leptonctl events`."""

from __future__ import annotations

import json
from datetime import timedelta

import msgspec

from leptond import schema
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import (
    SUBMITTED_AT,
    Stub,
    sse,
)


def event(number: int, kind: str = "job.state", **data: object) -> schema.Event:
    at = SUBMITTED_AT + timedelta(seconds=number)
    return schema.Event(id=number, at=at, type=kind, job_id=47, attempt=1, data=dict(data))


def test_events_are_lines_and_pages_are_joined(cli: Cli, stub: Stub):
    def answer(asked):
        if asked.query["since"] == "5":
            return schema.EventPage(
                items=[event(6, **{"from": "pending", "to": "starting"})], next_cursor="6"
            )
        return schema.EventPage(items=[event(7, "job.edited", priority=3)])

    stub.on("GET", "/v1/events", answer)
    assert cli("events", "--since", "5").rows == [
        ["6", "2026-03-04T10:00:06Z", "job.state", "47.1", "pending -> starting"],
        ["7", "2026-03-04T10:00:07Z", "job.edited", "47.1", "priority=3"],
    ]


def test_events_alone_are_the_last_ones(cli: Cli, stub: Stub):
    def answer(asked):
        if "text/event-stream" in asked.headers["accept"]:
            return sse(("hello", {"last_event_id": 120}))
        return schema.EventPage(items=[event(120)])

    stub.on("GET", "/v1/events", answer)
    assert len(cli("events").rows) == 1
    assert stub.asked[-1].query["since"] == "70"


def test_events_are_followed_one_json_a_line(cli: Cli, stub: Stub):
    other = msgspec.structs.replace(event(9), job_id=50)
    stub.job()
    stub.on(
        "GET",
        "/v1/events",
        sse(
            ("hello", {"last_event_id": 7}),
            ("job.state", event(8), "8"),
            ("job.state", other, "9"),
            ("end", {}),
        ),
    )
    result = cli("events", "-f", "--job", "47", "--json")
    assert [json.loads(line)["id"] for line in result.out.splitlines()] == [8]
