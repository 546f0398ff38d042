"""`leptonctl dashboard`."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Stub

ME = {"page_url": "http://127.0.0.1:8370/#login=w", "page_url_read_only": "http://127.0.0.1:8370/#login=r"}


def test_the_address_and_the_way_from_another_machine(cli: Cli, stub: Stub):
    stub.on("GET", "/v1/me", ME)
    result = cli("dashboard")
    assert result.out == ME["page_url"] + "\n"
    assert "ssh -L 8370:127.0.0.1:8370" in result.err
    assert json.loads(cli("dashboard", "--read-only", "--json").out) == {"url": ME["page_url_read_only"]}


def test_a_page_that_is_not_served_is_a_failure_with_the_way_to_serve_it(cli: Cli, stub: Stub, home: Path):
    stub.on("GET", "/v1/me", {})
    result = cli("dashboard")
    assert (result.code, result.out) == (1, "")
    assert "leptond run --listen 127.0.0.1:8370" in result.err
    assert str(home / "XDG_CONFIG_HOME/leptond/config.toml") in result.err
    unit = home / "XDG_CONFIG_HOME/systemd/user/leptond.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    assert "systemctl --user restart leptond" in cli("dashboard").err


@pytest.mark.parametrize("opened", [True, False])
def test_it_is_opened_where_there_is_a_browser(cli: Cli, stub: Stub, monkeypatch, opened: bool):
    stub.on("GET", "/v1/me", ME)
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: asked.append(url) or opened)
    assert cli("dashboard", "--open").code == (0 if opened else 1)
    assert asked == [ME["page_url"]]
