"""cancel, retry, hold, release, edit: one job, several, arrays, and failures in between."""

from __future__ import annotations

import json

import pytest

from leptond.cli.framework import refs
from leptond.core.jobs.model import State
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Answer, Stub, ended, make_job, page, problem, submitted


@pytest.fixture(autouse=True)
def jobs(stub: Stub) -> None:
    for number in (1, 2, 3):
        stub.job(id=number)
        for action in ("cancel", "hold", "release"):
            stub.on("POST", f"/v1/jobs/{number}/{action}", make_job(id=number))


def test_cancel_says_what_became_of_each(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/jobs/1/cancel", Answer(ended(State.CANCELLED, id=1), status=202))
    stub.on("POST", "/v1/jobs/2/cancel", Answer(make_job(id=2, state=State.STOPPING), status=202))
    result = cli("cancel", "1", "2", "1", "--grace", "0", "--reason", "enough")
    assert result.out.splitlines() == ["Job 1 is cancelled", "Job 2 is being cancelled"]
    assert stub.asked[-1].body == {"grace_s": 0, "reason": "enough"}
    assert cli("kill", "1").code == 0
    assert stub.asked[-1].body is None


def test_one_that_fails_does_not_keep_the_others_back(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/jobs/2/cancel", problem(409, "job 2 has already ended"))
    result = cli("cancel", "1", "2", "3")
    assert result.code == 4
    assert len(result.out.splitlines()) == 2
    assert "job 2 has already ended" in result.err
    answers = json.loads(cli("cancel", "1", "2", "3", "--json").out)
    assert [answer.get("status") for answer in answers] == [None, 409, None]


def test_a_single_failure_is_a_bare_problem(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/jobs/2/hold", problem(409, "no"))
    result = cli("hold", "2", "--json")
    assert (result.code, json.loads(result.out)["detail"]) == (4, "no")
    assert json.loads(cli("hold", "1", "--json").out)["id"] == 1


def test_an_array_is_all_its_members(cli: Cli, stub: Stub):
    members = [make_job(id=47 + i, ref=f"47_{i}", array_id=47, array_index=i) for i in range(2)]
    stub.on("GET", "/v1/jobs/47", members[0])
    stub.on("GET", "/v1/jobs", page(*members[::-1]))
    for member in members:
        stub.on("POST", f"/v1/jobs/{member.ref}/hold", member)
    for name in ("47", "47_*"):
        assert cli("hold", name).out == "Job 47_0 is held\nJob 47_1 is held\n"
    assert len(json.loads(cli("hold", "47", "--json").out)) == 2
    assert cli("hold", "47_1").out == "Job 47_1 is held\n"
    stub.on("GET", "/v1/jobs", page())
    assert cli("hold", "48_*").code == 3


def test_all_of_mine_are_cancelled_the_waiting_ones_first(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs", page(make_job(id=3, state=State.RUNNING), make_job(id=2), make_job(id=1)))
    assert cli("cancel", "--mine").code == 0
    assert stub.of("GET", "/v1/jobs")[0].query["user"] == refs.me()
    assert [a.path for a in stub.asked if a.method == "POST"] == [f"/v1/jobs/{n}/cancel" for n in (2, 1, 3)]
    cli("cancel", "--all", "--yes")
    assert "user" not in stub.of("GET", "/v1/jobs")[-1].query
    stub.on("GET", "/v1/jobs", page())
    assert cli("cancel", "--all").err == "Nothing runs or waits.\n"


def test_cancel_of_nothing_or_of_both_is_a_usage_error(cli: Cli, stub: Stub):
    assert cli("cancel").code == 2
    assert cli("cancel", "1", "--all").code == 2
    assert stub.asked == []


def test_retry_says_whether_it_is_a_copy(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/jobs/1/retry", submitted(9))
    stub.on("POST", "/v1/jobs/2/retry", Answer(submitted(2).body))
    assert cli("retry", "1", "2").out == "Submitted job 9 (again 1)\nJob 2 does not wait any longer\n"
    assert stub.asked[-1].body is None
    cli("retry", "1", "--time", "4h", "-g", "2")
    assert stub.asked[-1].body == {"time_limit_s": 14400.0, "gpus": 2}


def test_release(cli: Cli, stub: Stub):
    assert cli("release", "1").out == "Job 1 is released\n"


def test_edit_sends_only_what_is_named(cli: Cli, stub: Stub):
    stub.on("PATCH", "/v1/jobs/1", make_job(id=1))
    assert cli("edit", "1", "-p", "0", "-t", "2h", "--project", "").out == "Job 1 is changed\n"
    assert stub.asked[-1].body == {"priority": 0, "time_limit_s": 7200, "project": None}
    assert "if-match" not in stub.asked[-1].headers
    assert cli("edit", "1").code == 2
    cli("edit", "1", "--contact", "Ana, #night")
    assert stub.asked[-1].body == {"contact": "Ana, #night"}
    cli("edit", "1", "--contact", "")
    assert stub.asked[-1].body == {"contact": None}


def test_labels_are_merged_and_guarded_by_the_version(cli: Cli, stub: Stub):
    stub.job(id=1, labels={"a": "b", "c": "d"}, version=8)
    stub.on("PATCH", "/v1/jobs/1", make_job(id=1))
    assert cli("edit", "1", "--label", "a=", "--label", "e=f").code == 0
    assert stub.asked[-1].body == {"labels": {"c": "d", "e": "f"}}
    assert stub.asked[-1].headers["if-match"] == '"8"'


def test_an_attempt_is_no_job(cli: Cli, stub: Stub):
    result = cli("cancel", "1.2")
    assert result.code == 1
    assert "is an attempt" in result.err
