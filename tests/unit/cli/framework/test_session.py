"""The options that every command takes: --json, --host and -v."""

from __future__ import annotations

import json

from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import (
    Stub,
    make_status,
    plain,
    problem,
)


def test_json_before_and_behind_the_command_is_the_apis_object(cli: Cli, stub: Stub):
    job = stub.job(name="it")
    for words in (["--json", "show", "47"], ["show", "--json", "47"], ["show", "47", "--json"]):
        result = cli(*words)
        assert json.loads(result.out) == plain(job)
        assert result.err == ""


def test_json_of_an_error_is_the_problem(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/jobs/9", problem(404, "there is no job 9", hint="look"))
    result = cli("show", "9", "--json")
    assert result.code == 3
    assert json.loads(result.out)["detail"] == "there is no job 9"
    assert "there is no job 9" in result.err


def test_json_when_there_is_no_daemon_is_a_problem_too(cli: Cli):
    result = cli("--json", "status")
    assert result.code == 69
    assert json.loads(result.out)["type"] == "/problems/unreachable"
    assert "leptonctl doctor" in result.err


def test_the_host_is_an_option_a_variable_or_a_usage_error(cli: Cli, stub: Stub, monkeypatch):
    stub.on("GET", "/v1/status", make_status())
    assert cli("status", "--host", f"unix://{stub.path}").code == 0
    assert cli("--host", "nonsense", "status").code == 2
    monkeypatch.setenv("LEPTOND_HOST", "unix:///nowhere")
    result = cli("status")
    assert (result.code, result.out) == (69, "")
    assert "unix:/nowhere (no such file)" in result.err


def test_verbose_shows_the_requests(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/status", make_status())
    assert "GET unix:" in cli("-v", "status").err
