"""`leptonctl tune`."""

from __future__ import annotations

import json

import pytest

from leptond.core.jobs.states import State
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Stub, make_job, page


def test_knobs_are_sent_as_numbers(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/jobs/47/tune", {"ref": "47", "values": {}})
    stub.on("GET", "/v1/jobs", page(make_job(state=State.RUNNING)))
    result = cli("tune", "train.py", "lr=3e-5", "clip=1")
    assert stub.of("POST", "/v1/jobs/47/tune")[0].body == {"values": {"lr": 3e-5, "clip": 1.0}}
    assert result.out == "Job 47 is told: lr=3e-05, clip=1\n"
    assert json.loads(cli("tune", "47", "lr=1", "--json").out) == {"ref": "47", "values": {}}


@pytest.mark.parametrize("word", ["lr", "lr=", "=1", "lr=fast", "lr=nan", "lr=inf"])
def test_what_is_no_number_is_a_usage_error(cli: Cli, stub: Stub, word: str):
    result = cli("tune", "47", word)
    assert result.code == 2
    assert "is not NAME=NUMBER" in result.err
    assert not stub.asked
