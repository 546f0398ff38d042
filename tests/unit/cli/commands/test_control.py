"""cancel, retry, hold, release, edit: one job, several, arrays, and failures in between."""

from __future__ import annotations

import json

import pytest

from leptond import schema
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
    array = schema.Array(id=47, name="a", user="ana", counts={State.PENDING: 2}, held=2, never_start=0)
    stub.on("GET", "/v1/arrays/47", array)
    stub.on("POST", "/v1/arrays/47/hold", schema.ArrayChanged(array=array, changed=2))
    for name in ("47", "47_*"):
        assert cli("hold", name).out == "2 jobs of array 47 are held\n"
    assert len(json.loads(cli("hold", "47", "--json").out)) == 2
    assert cli("hold", "47_1").out == "Job 47_1 is held\n"
    stub.on("GET", "/v1/jobs", page())
    assert cli("hold", "48_*").code == 3


def test_a_set_is_one_request(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/jobs:cancel", schema.SetChanged(pending=2, live=1))
    result = cli("cancel", "--mine", "--reason", "enough")
    assert result.out == "2 jobs that waited are cancelled; 1 job that ran is being stopped\n"
    (asked,) = stub.asked
    assert (asked.path, asked.body) == ("/v1/jobs:cancel", {"user": refs.me(), "reason": "enough"})
    stub.on("POST", "/v1/jobs:cancel", schema.SetChanged(meanwhile=12, meanwhile_jobs=["8", "9_1"]))
    result = cli("cancel", "--all", "--yes")
    assert stub.asked[-1].body == {"all": True}
    assert result.err == (
        "Nothing runs or waits.\nleptonctl: 12 jobs were submitted meanwhile, and go on: 8, 9_1, ...\n"
    )
    stub.on("POST", "/v1/jobs:hold", schema.SetChanged(pending=3, others=1))
    result = cli("hold", "--all", "--state", "pending", "--name", "train")
    assert (result.code, result.out) == (5, "3 jobs are held\n")
    assert "1 job of others stayed as they are" in result.err
    assert stub.asked[-1].body == {"all": True, "name": "train", "state": "pending"}
    stub.on("POST", "/v1/jobs:release", schema.SetChanged(pending=1))
    assert cli("release", "--never", "--user", "ana").out == "1 job is released\n"
    assert stub.asked[-1].body == {"never": True, "user": "ana"}


def test_lists_and_ranges_name_many_jobs_in_one_request(cli: Cli, stub: Stub):
    assert cli("hold", "1,2").out == "Job 1 is held\nJob 2 is held\n"
    stub.on("GET", "/v1/jobs", page())
    for ref in ("5_1", "5_2"):
        stub.on("POST", f"/v1/jobs/{ref}/hold", make_job())
    assert cli("hold", "5_1-2").out == "Job 5_1 is held\nJob 5_2 is held\n"
    gone = schema.NotChanged(ref="67", type="/problems/not-found", status=404, detail="there is no job 67")
    stub.on("POST", "/v1/jobs:cancel", schema.SetChanged(pending=40, refused=[gone]))
    result = cli("cancel", "60-100")
    assert (result.code, result.out) == (3, "40 jobs that waited are cancelled\n")
    assert "job 67" in result.err
    assert stub.asked[-1].body == {"jobs": [str(number) for number in range(60, 101)]}


def test_a_name_of_several_jobs_changes_only_the_one_that_has_not_ended(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs", page(make_job(id=9), make_job(id=8)))
    refused = cli("cancel", "first")
    assert refused.code == 1
    assert "several jobs called 'first' have not ended: 9, 8" in refused.err
    assert not [asked for asked in stub.asked if asked.method == "POST"]
    stub.on("GET", "/v1/jobs", page(make_job(id=9), make_job(id=8)), page(make_job(id=9)))
    stub.on("POST", "/v1/jobs/9/hold", make_job(id=9))
    done = cli("hold", "first")
    assert (done.code, done.out) == (0, "Job 9 is held\n")
    assert "the only one that has not ended, 9" in done.err


def test_the_last_array_is_all_of_it(cli: Cli, stub: Stub):
    members = [make_job(id=47 + i, ref=f"47_{i}", array_id=47, array_index=i) for i in range(2)]
    stub.on("GET", "/v1/jobs", page(*members[::-1]))
    array = schema.Array(id=47, name="a", user="ana", counts={State.PENDING: 2}, held=2, never_start=0)
    stub.on("GET", "/v1/arrays/47", array)
    stub.on("POST", "/v1/arrays/47/hold", schema.ArrayChanged(array=array, changed=2))
    for name in ("@last", "sweep"):
        assert cli("hold", name).out == "2 jobs of array 47 are held\n"


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
