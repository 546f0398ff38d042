"""`leptonctl purge`."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Answer, Stub, page

DONE = {"jobs": 3, "outputs": 2, "events": 10, "bytes": 5 << 20, "job_ids": [1, 2]}


def test_what_is_over_the_limits_goes(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/purge", DONE)
    result = cli("purge", "--older-than", "30d", "--yes")
    assert stub.asked[-1].body == {"checkpoints": False, "older_than_s": 30 * 86400.0, "dry_run": False}
    assert result.out == "Forgot 3 jobs, the output of 2 more attempts and 10 events: 5 MiB\n"
    assert json.loads(cli("purge", "--json").out) == DONE


def test_a_dry_run_names_the_jobs(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/purge", DONE)
    result = cli("purge", "--dry-run", "--checkpoints")
    assert stub.asked[-1].body == {"checkpoints": True, "dry_run": True}
    assert result.out.splitlines()[0].startswith("Would forget 3 jobs")
    assert result.out.splitlines()[1] == "jobs 1 2 ..."


def test_jobs_that_are_named_are_forgotten_one_by_one(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs", page())
    for number in (1, 2):
        stub.on("GET", f"/v1/arrays/{number}", Answer({"detail": "no array"}, status=404))
        stub.on("DELETE", f"/v1/jobs/{number}", Answer(None, status=204))
    assert cli("purge", "1", "2").out == "Job 1 is forgotten\nJob 2 is forgotten\n"


@pytest.mark.parametrize("words", [["--dry-run"], ["--checkpoints"], ["--older-than", "1d"]])
def test_named_jobs_take_no_limits(cli: Cli, stub: Stub, words: list[str]):
    assert cli("purge", "1", *words).code == 2
    assert not stub.asked
