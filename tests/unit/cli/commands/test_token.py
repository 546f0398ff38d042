"""`leptonctl token` and `leptonctl whoami`."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Stub

TOKEN = {
    "id": "1f0c9a2e",
    "kind": "token",
    "name": "ci",
    "user": "ana",
    "uid": 1001,
    "role": "user",
    "made_by": "ana",
    "made_at": "2026-12-01T00:00:00Z",
    "expires_at": "2027-03-01T00:00:00Z",
    "last_used_at": None,
}
ME = {
    "user": "ana",
    "admin": False,
    "read_only": False,
    "uid": 1001,
    "role": "user",
    "job": None,
    "via": "socket",
    "sees_everything": False,
    "page_url": "http://127.0.0.1:8370/#login=secret",
}


def test_a_new_token_alone_is_on_standard_output(cli: Cli, stub: Stub):
    stub.on("POST", "/v1/tokens", {"token": TOKEN, "secret": "lept_x"})
    result = cli("token", "new", "ci", "--role", "viewer", "--expires", "30d")
    assert result.out == "lept_x\n"
    assert "leptonctl token revoke 1f0c9a2e" in result.err
    (asked,) = stub.of("POST", "/v1/tokens")
    assert asked.body == {"name": "ci", "role": "viewer", "lifetime_s": 2592000.0}


@pytest.mark.parametrize("text", ["soon", "0", "-1d"])
def test_a_life_that_is_none_is_a_usage_error(cli: Cli, stub: Stub, text: str):
    assert cli("token", "new", "ci", f"--expires={text}").code == 2


def test_tokens_are_listed(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/tokens", {"items": [TOKEN]})
    assert cli("token", "list", "--no-header").out.split() == [
        "1f0c9a2e", "ci", "ana", "user", "token", "2027-03-01T00:00:00Z", "-",
    ]  # fmt: skip
    assert json.loads(cli("token", "list", "--json").out) == {"items": [TOKEN]}


def test_tokens_are_revoked_one_by_one(cli: Cli, stub: Stub):
    stub.on("DELETE", "/v1/tokens/1f0c9a2e", {})
    result = cli("token", "revoke", "1f0c9a2e")
    assert (result.code, "1f0c9a2e is revoked" in result.err) == (0, True)
    assert cli("token", "revoke").code == 2


def test_who_i_am_is_one_line_without_a_secret(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/me", ME)
    result = cli("whoami")
    assert result.out == "ana (uid 1001), user, known by the socket\n"
    assert "jobs of others are shown with their id" in result.err
    assert "secret" not in cli("whoami", "--json").out


def test_a_job_is_told_that_it_is_one(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/me", {**ME, "job": 47})
    assert "as a process of job 47" in cli("whoami").err


def test_an_older_daemon_is_understood(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/me", {"user": "ana", "admin": True, "read_only": False, "page_url": None})
    assert cli("whoami").out == "ana, admin, known by the socket\n"
