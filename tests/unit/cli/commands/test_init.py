"""`leptonctl init` writes what the daemon and systemd then take."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from leptond.cli.commands.init import plan
from leptond.config import load
from tests.unit.cli.conftest import Cli


def test_for_a_user(cli: Cli, home: Path):
    done = cli("init", "--listen", "127.0.0.1:8370")
    assert done.code == 0, done.err
    config = home / "XDG_CONFIG_HOME/leptond/config.toml"
    assert load(config, required=True).http.listen == "127.0.0.1:8370"
    unit = (home / "XDG_CONFIG_HOME/systemd/user/leptond.service").read_text()
    assert f"ExecStart={Path(sys.executable).with_name('leptond')} run\n" in unit
    assert "systemctl --user daemon-reload" in done.out


def test_nothing_is_written_over_unasked(cli: Cli, home: Path):
    config = home / "XDG_CONFIG_HOME/leptond/config.toml"
    config.parent.mkdir()
    config.write_text("# mine\n")
    refused = cli("init")
    assert refused.code == 4
    assert str(config) in refused.err
    assert config.read_text() == "# mine\n"
    assert not (home / "XDG_CONFIG_HOME/systemd").exists()
    assert cli("init", "--force").code == 0
    assert "[http]" in config.read_text()


def test_a_dry_run_writes_nothing(cli: Cli, home: Path):
    shown = cli("init", "--dry-run")
    assert "ExecStart=" in shown.out
    assert not (home / "XDG_CONFIG_HOME/leptond").exists()


def test_the_units_of_a_machine_are_valid(tmp_path: Path):
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed")
    for path, text in plan(system=True, listen="", leptond=shutil.which("true") or "/bin/true").files:
        if path.suffix == ".service":
            unit = tmp_path / path.name
            unit.write_text(text)
            done = subprocess.run(
                [verify, "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
            )
            assert "Unknown" not in done.stderr, done.stderr
            assert done.returncode == 0, done.stderr
