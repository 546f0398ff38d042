"""wait and run: when they end, and with which code."""

from __future__ import annotations

import json

import pytest

from leptond.core.jobs.model import State
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import ENDS, Stub, ended, make_job, problem


@pytest.mark.parametrize(("job", "code"), ENDS)
def test_wait_leaves_with_the_jobs_code(cli: Cli, stub: Stub, job, code):
    stub.on("GET", "/v1/jobs/47", make_job(state=State.RUNNING), job)
    result = cli("wait", "47")
    assert (result.code, result.out) == (code, "")
    assert ("job 47 (train.py)" in result.err) is (code != 0)


def test_wait_takes_the_first_that_failed_in_the_order_given(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs/1", ended(State.SUCCEEDED, id=1, exit_code=0))
    stub.on("GET", "/v1/jobs/2", ended(State.FAILED, id=2, exit_code=5))
    stub.on("GET", "/v1/jobs/3", ended(State.FAILED, id=3, exit_code=6))
    assert cli("wait", "1", "3", "2").code == 6
    found = json.loads(cli("wait", "1", "2", "--json").out)
    assert [job["id"] for job in found] == [1, 2]


def test_wait_any_takes_the_first_that_ends(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs/1", make_job(id=1))
    stub.on("GET", "/v1/jobs/2", make_job(id=2), make_job(id=2), ended(State.FAILED, id=2, exit_code=5))
    result = cli("wait", "--any", "1", "2")
    assert (result.code, result.out) == (5, "2\n")


def test_wait_for_an_array_waits_for_its_members(cli: Cli, stub: Stub):
    members = [
        ended(
            State.FAILED if i == 1 else State.SUCCEEDED, id=47 + i, ref=f"47_{i}", array_id=47, array_index=i
        )
        for i in range(3)
    ]
    for member in members:
        stub.on("GET", f"/v1/jobs/{member.ref}", member)
    stub.on("GET", "/v1/jobs/47", members[0])
    stub.on("GET", "/v1/jobs", {"items": members[::-1], "next_cursor": None})
    assert cli("wait", "47_*").code == 1
    assert cli("wait", "47").code == 1
    assert [asked.path for asked in stub.asked[-3:]] == [f"/v1/jobs/47_{i}" for i in range(3)]
    # a single member by its own name
    assert cli("wait", "47_0").code == 0


def test_wait_that_runs_out_of_time_leaves_with_75(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs/47", make_job(state=State.RUNNING))
    for words in (["wait", "--timeout", "0.01", "47"], ["wait", "--any", "--timeout", "0.01", "47"]):
        result = cli(*words)
        assert result.code == 75
        assert "ran out" in result.err
    assert json.loads(cli("wait", "--timeout", "0", "47", "--json").out)["state"] == "running"


def test_wait_asks_the_daemon_to_hold_the_answer(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs/47", make_job(state=State.RUNNING), make_job(), ended(State.SUCCEEDED))
    cli("wait", "47")
    # is it an array; has it ended; and then until it has
    assert [asked.query.get("wait_s") for asked in stub.asked] == [None, None, "30"]


def test_wait_for_no_such_job(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs/9", problem(404, "there is no job 9"))
    assert cli("wait", "9").code == 3
