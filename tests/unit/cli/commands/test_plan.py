"""`leptonctl plan`."""

from __future__ import annotations

import json
from datetime import timedelta

from leptond.schema import Plan, Planned
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import SUBMITTED_AT, Stub, plain

ITEM = Planned(
    id=47,
    ref="47",
    name="train.py",
    user="ana",
    gpus=2,
    gpu_indices=[0, 3],
    starts_at=SUBMITTED_AT,
    earliest_at=None,
    latest_at=SUBMITTED_AT + timedelta(hours=1),
    ends_at=SUBMITTED_AT + timedelta(hours=2),
)
PLAN = Plan(policy="auto", at=SUBMITTED_AT, items=[ITEM], not_foretold=3)


def test_starts_are_in_their_order_with_their_gpus(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/plan", PLAN)
    result = cli("plan", "--policy", "easy", "-n", "5")
    assert stub.asked[-1].query == {"policy": "easy", "limit": "5"}
    assert result.rows[1] == [
        "47",
        "train.py",
        "ana",
        "0,3",
        "2026-03-04T10:00:00Z",
        "-",
        "2026-03-04T11:00:00Z",
        "2026-03-04T12:00:00Z",
    ]
    assert result.err.startswith("3 more start later")
    assert len(cli("plan", "--no-header").rows) == 1
    assert json.loads(cli("plan", "--json").out) == plain(PLAN)


def test_nothing_to_foretell_is_said(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/plan", Plan(policy="auto", at=SUBMITTED_AT, items=[], not_foretold=0))
    assert cli("plan").err == "No job waits for a start that can be foretold.\n"
    assert cli("plan", "--policy", "luck").code == 2
