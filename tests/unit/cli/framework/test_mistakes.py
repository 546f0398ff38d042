"""Mistakes in a call, and in a request, in the words of the command line; with --json one document each."""

from __future__ import annotations

import json

import pytest

from leptond import schema
from tests.unit.cli.stub import make_job, page, problem


@pytest.mark.parametrize(
    ("words", "detail", "hint"),
    [
        (["--json", "submit", "--bogus"], "No such option", "see leptonctl submit --help"),
        (["submit", "--json", "--bogus"], "No such option", "see leptonctl submit --help"),
        (["--json", "submit", "--gpus", "two", "--", "true"], "'two' is not a valid", "see leptonctl submit"),
        (["--json", "submit", "-e", "NOT_SET", "--", "true"], "NOT_SET", "see leptonctl submit --help"),
        (["--json", "gpus", "7"], "unexpected extra argument", "see leptonctl gpus --help"),
        (["--json", "queeu"], "Did you mean 'queue'?", "see leptonctl --help"),
        (["--json", "--bogus"], "No such option", "see leptonctl --help"),
        (["show", "--json"], "Missing argument", "see leptonctl show --help"),
        (["--json", "export", "-o", "x.json"], "--json prints one document", "see leptonctl export --help"),
        (["--json", "export", "--parquet"], "--parquet needs a file", "see leptonctl export --help"),
    ],
)
def test_a_mistake_is_one_document(cli, words, detail, hint):
    result = cli(*words)
    assert result.code == 2
    problem = json.loads(result.out)
    assert problem["type"] == "/problems/usage"
    assert problem["status"] == 0
    assert detail in problem["detail"]
    assert problem["hint"].startswith(hint)
    assert "Error: " in result.err


@pytest.mark.parametrize(
    "words", [["submit", "--bogus"], ["submit", "-e", "NOT_SET", "--", "echo", "--json"], ["gpus", "7"]]
)
def test_without_json_standard_output_is_empty(cli, words):
    result = cli(*words)
    assert (result.code, result.out) == (2, "")


def refusal(*faults):
    return problem(
        422,
        "; ".join(message for _, message in faults),
        hint="see /v1/openapi.json for the fields and their types",
        errors=[schema.ProblemError(pointer=pointer, message=message) for pointer, message in faults],
    )


def test_a_fault_names_the_option(cli, stub):
    fault = ("/gpus", "gpus must be a whole number from 0 to 1024, not -1")
    stub.on("POST", "/v1/jobs", refusal(fault))
    result = cli("submit", "--gpus", "-1", "--", "true")
    assert result.code == 1
    assert result.err == "leptonctl: --gpus must be a whole number from 0 to 1024, not -1\n"


def test_all_faults_name_their_options(cli, stub):
    faults = [
        ("/gpus", "gpus must be a whole number from 0 to 1024, not -1"),
        ("/time_limit_s", "time_limit_s must be a number over 0 and at most 315360000, not 0"),
        ("/job/name", "job.name must be letters, not 'a b'"),
        ("/array", "the array range '9-0' is empty"),
        ("/grid/lr", "grid.lr must not be empty"),
    ]
    stub.on("POST", "/v1/jobs", refusal(*faults))
    result = cli("submit", "--", "true")
    assert result.err.splitlines() == [
        "leptonctl: the request has 5 faults",
        "  --gpus must be a whole number from 0 to 1024, not -1",
        "  --time must be a number over 0 and at most 315360000, not 0",
        "  --name must be letters, not 'a b'",
        "  --array: the array range '9-0' is empty",
        "  grid.lr must not be empty",
    ]


def test_export_as_one_document(cli, stub):
    stub.on("GET", "/v1/jobs", page(make_job(id=2), make_job(id=1)))
    exported = json.loads(cli("--json", "export").out)
    assert [job["id"] for job in exported["items"]] == [2, 1]
    assert exported["next_cursor"] is None
    lines = cli("--json", "export", "--json-lines").out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == [2, 1]
    assert cli("export").out.startswith("id,ref,name,")
