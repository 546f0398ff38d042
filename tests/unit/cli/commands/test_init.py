"""`leptonctl init` writes what the daemon and systemd then take."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from leptond.cli.commands.init import free_address, plan
from leptond.config import load, parse
from tests.unit.cli.conftest import Cli


def test_for_a_user(cli: Cli, home: Path):
    done = cli("init", "--listen", "127.0.0.1:8371")
    assert done.code == 0, done.err
    config = home / "XDG_CONFIG_HOME/leptond/config.toml"
    assert load(config, required=True).http.listen == "127.0.0.1:8371"
    unit = (home / "XDG_CONFIG_HOME/systemd/user/leptond.service").read_text()
    assert f"ExecStart={Path(sys.executable).with_name('leptond')} run\n" in unit
    assert "systemctl --user daemon-reload" in done.out


def test_the_page_is_on_unless_it_is_declined_on_a_port_that_is_free(cli: Cli, home: Path):
    config = home / "XDG_CONFIG_HOME/leptond/config.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_address(port) != f"127.0.0.1:{port}"
    assert cli("init").code == 0
    assert load(config, required=True).http.listen.startswith("127.0.0.1:8")
    assert cli("init", "--force", "--no-listen").code == 0
    assert load(config, required=True).http.listen == ""
    assert cli("init", "--no-listen", "--listen", "127.0.0.1:1").code == 2


def test_two_programs_are_linked_and_no_other_of_the_installation(cli: Cli, home: Path):
    done = cli("init")
    bin_dir = home / ".local/bin"
    assert sorted(link.name for link in bin_dir.iterdir()) == ["leptonctl", "leptond"]
    assert all(link.readlink() == Path(sys.executable).with_name(link.name) for link in bin_dir.iterdir())
    assert 'export PATH="$HOME/.local/bin:$PATH"' in done.out
    assert "linked /" not in cli("init", "--force").err


def test_a_program_of_another_installation_stays_unless_it_is_a_link_and_forced(cli: Cli, home: Path):
    other = home / "other"
    other.write_text("#!/bin/sh\n")
    bin_dir = home / ".local/bin"
    bin_dir.mkdir(parents=True)
    (bin_dir / "leptonctl").symlink_to(other)
    (bin_dir / "leptond").write_text("mine\n")
    assert "is of another installation" in cli("init").err
    assert (bin_dir / "leptonctl").readlink() == other
    cli("init", "--force")
    assert (bin_dir / "leptonctl").readlink() == Path(sys.executable).with_name("leptonctl")
    assert (bin_dir / "leptond").read_text() == "mine\n"


def test_no_links_on_request_and_none_that_dangle(cli: Cli, home: Path):
    assert cli("init", "--no-links").code == 0
    assert not (home / ".local/bin").exists()
    (home / ".local/bin").mkdir(parents=True)
    (home / ".local/bin/leptond").symlink_to(home / "gone")
    assert cli("init", "--force").code == 0
    assert (home / ".local/bin/leptond").exists()


@pytest.mark.parametrize("system", [False, True])
def test_a_unit_speaks_only_of_the_unit_that_is_written(system: bool):
    todo = plan(system=system, listen="", leptond="/bin/true", environ={"HOME": "/h"})
    written = {path.stem for path, _ in todo.files if path.suffix == ".service"}
    texts = "\n".join([*(text for _, text in todo.files), *todo.after])
    named = re.findall(r"systemctl(?: --user)? (?:enable --now|restart|start|stop) (\S+)", texts)
    assert len(named) >= 2
    assert {name.rstrip(":`)") for name in named} == written


def test_jobs_get_a_unit_of_their_own_where_that_is_asked_for(cli: Cli):
    todo = plan(system=True, separate_jobs=True, listen="", leptond="/opt/x/bin/leptond", environ={})
    texts = {str(path): text for path, text in todo.files}
    jobs = texts["/etc/systemd/system/leptond-jobs.service"]
    assert "\nExecStart=/opt/x/bin/leptond spawn-server /run/leptond-jobs/spawner.sock\n" in jobs
    tight = texts["/etc/systemd/system/leptond.service.d/tight.conf"]
    assert "\nEnvironment=LEPTOND_ENGINE__SPAWNER=/run/leptond-jobs/spawner.sock\n" in tight
    assert "Wants=leptond-jobs.service" in tight
    for wrong in (("--separate-jobs",), ("--system", "--multi-user", "--separate-jobs")):
        assert cli("init", "--dry-run", *wrong).code == 2


def test_nothing_is_written_over_unasked(cli: Cli, home: Path):
    config = home / "XDG_CONFIG_HOME/leptond/config.toml"
    config.parent.mkdir()
    config.write_text("# mine\n")
    refused = cli("init")
    assert refused.code == 4
    assert str(config) in refused.err
    assert config.read_text() == "# mine\n"
    assert (home / ".local/bin/leptonctl").exists(), "an installation of before gets its links"
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
            said = [
                line for line in done.stderr.splitlines() if "'DelegateSubgroup'" not in line
            ]  # systemd 254
            assert "Unknown" not in "\n".join(said), done.stderr
            assert done.returncode == 0, done.stderr


def test_the_manual_pages_are_linked_where_man_looks(tmp_path: Path, home: Path):
    leptond = tmp_path / "venv/bin/leptond"
    page = tmp_path / "venv/share/man/man1/leptonctl.1"
    page.parent.mkdir(parents=True)
    page.write_text(".TH\n")
    links = dict(plan(system=False, listen="", leptond=str(leptond)).links)
    assert links[home / ".local/share/man/man1/leptonctl.1"] == page
    assert home / ".local/share/man/man1/leptond.1" not in links, "there is none to link to"
    assert Path("/usr/local/share/man/man1/leptonctl.1") in dict(
        plan(system=True, listen="", leptond=str(leptond)).links
    )


def test_a_shared_box_gets_its_unit_and_its_mode() -> None:
    for multi_user, mode in ((False, "service-user"), (True, "multi-user")):
        todo = plan(system=True, multi_user=multi_user, listen="", leptond="/opt/x/bin/leptond")
        texts = {path.name: text for path, text in todo.files}
        assert tomllib.loads(texts["config.toml"])["accounts"]["mode"] == mode
        parse(texts["config.toml"], {})
        assert ("CAP_SETUID" in texts["leptond.service"]) == multi_user
        assert ("\nUser=leptond\n" in texts["leptond.service"]) != multi_user
        assert "ExecStart=/opt/x/bin/leptond run --system" in texts["leptond.service"]


def test_the_mode_is_one_of_a_machine_alone(cli: Cli, home: Path):
    done = cli("init", "--multi-user", "--dry-run")
    assert done.code == 2
    assert "say --system too" in done.err
