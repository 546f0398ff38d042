"""The advice fits what is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from leptond.client.installation import config_file, installed, start_advice

USER, SYSTEM = "systemctl --user start leptond", "sudo systemctl start leptond"


@pytest.mark.parametrize(
    ("units", "kind", "says", "never"),
    [
        ([], None, "leptond run", "systemctl"),
        (["home/.config/systemd/user"], "user", USER, SYSTEM),
        (["etc/systemd/user"], "user", USER, SYSTEM),
        (["etc/systemd/system"], "system", SYSTEM, USER),
        (["home/.config/systemd/user", "etc/systemd/system"], "user", USER, SYSTEM),
    ],
)
def test_a_daemon_is_started_as_it_was_installed(tmp_path: Path, units, kind, says: str, never: str):
    for place in units:
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "leptond.service").touch()
    environ = {"HOME": str(tmp_path / "home")}
    found = installed(environ, root=str(tmp_path))
    assert found == kind
    assert says in start_advice(found)
    assert never not in start_advice(found)


def test_the_configuration_is_where_the_daemon_reads_it():
    assert config_file("system", {}) == "/etc/leptond/config.toml"
    assert config_file("user", {"HOME": "/h"}) == "/h/.config/leptond/config.toml"
    assert config_file(None, {"HOME": "/h", "XDG_CONFIG_HOME": "/c"}) == "/c/leptond/config.toml"
