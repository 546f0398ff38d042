"""What doctor finds, from outside the daemon."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from leptond import __version__, schema
from leptond.cli.commands import doctor
from leptond.cli.commands.doctor import FAIL, OK, WARN, Finding
from leptond.cli.diagnosis import checks, connection
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Answer, Stub, make_status, problem


@pytest.fixture(autouse=True)
def no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What depends on the machine that runs the tests is looked at on its own."""
    monkeypatch.setattr(checks, "driver", lambda status: Finding(OK, "nvidia", "not looked at"))
    monkeypatch.setattr(doctor, "_machine", lambda status, database, state_dir: iter(()))
    monkeypatch.setattr(checks, "disk", lambda directory: Finding(OK, "disk", str(directory)))


@pytest.fixture
def well(stub: Stub) -> Stub:
    stub.path.chmod(0o600)
    stub.on("GET", "/healthz", schema.Health(status="ok"))
    stub.on("GET", "/readyz", schema.Health(status="ok"))
    stub.on("GET", "/v1/status", make_status(version=__version__, gpus=[]))
    return stub


def findings(cli: Cli) -> tuple[int, dict[str, dict[str, str]]]:
    result = cli("doctor", "--json")
    return result.code, {finding["check"]: finding for finding in json.loads(result.out)}


def test_a_healthy_daemon_passes(cli: Cli, well: Stub):
    code, found = findings(cli)
    assert code == 0
    for check in ("python", "socket", "daemon", "clock", "ready", "version"):
        assert found[check]["level"] == OK, found[check]
    lines = cli("doctor").out.splitlines()
    assert lines[0].startswith("OK    python: 3.")


def test_without_a_daemon_it_says_where_it_looked_and_how_to_start_one(cli: Cli, home: Path):
    code, found = findings(cli)
    assert code == 1
    assert found["socket"]["level"] == FAIL
    assert str(home / "XDG_RUNTIME_DIR/leptond/leptond.sock") in found["socket"]["detail"]
    assert "leptond run" in found["socket"]["fix"]
    assert found["daemon"]["level"] == FAIL
    assert "disk" in found


def test_a_socket_nobody_listens_on(cli: Cli, stub: Stub):
    stub.close()
    stub.path.touch()
    code, found = findings(cli)
    assert code == 1
    assert found["daemon"]["level"] == FAIL


def test_another_version_and_the_daemons_warnings_are_told(cli: Cli, well: Stub):
    own = ".".join(map(str, checks.sqlite_version()))
    well.on(
        "GET",
        "/v1/status",
        make_status(
            version="9.9", warnings=["the disk has 3 MiB left"], notes=[f"SQLite {own} can lose commits"]
        ),
    )
    result = cli("doctor")
    assert result.code == 0
    assert "WARN  version: the daemon is 9.9" in result.out
    assert "WARN  daemon: the disk has 3 MiB left" in result.out
    assert f"WARN  daemon: SQLite {own}" not in result.out


def test_a_daemon_that_is_not_ready_fails(cli: Cli, well: Stub):
    body = schema.Health(status="starting", checks={"scheduler": "starting"})
    well.on("GET", "/readyz", Answer(body, status=503))
    well.on("GET", "/v1/status", problem(503, "the daemon is starting"))
    code, found = findings(cli)
    assert code == 1
    assert found["ready"]["detail"] == "not yet: starting"


def test_a_clock_that_differs_is_told(cli: Cli, well: Stub):
    date = {"Date": "Wed, 04 Mar 2020 10:00:00 GMT"}
    well.on("GET", "/healthz", Answer(schema.Health(status="ok"), headers=date))
    _, found = findings(cli)
    assert found["clock"]["level"] == WARN
    assert "differs from the daemon's" in found["clock"]["detail"]
    assert connection.clock("no date").level == OK


def test_a_socket_that_is_open_to_all_and_a_token_that_others_can_read(cli: Cli, well: Stub, home: Path):
    well.path.chmod(0o666)
    token = home / "XDG_CONFIG_HOME/leptond/token"
    token.parent.mkdir()
    token.write_text("lept_x")
    token.chmod(0o644)
    _, found = findings(cli)
    assert found["socket"]["level"] == WARN
    assert found["token"]["fix"] == f"run: chmod 600 {token}"


REAL_DRIVER, REAL_DISK = checks.driver, checks.disk


def machine(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("NVRM version: NVIDIA UNIX x86_64  560.35\n")
    return root


@pytest.mark.parametrize(
    ("files", "gpus", "level", "said"),
    [
        ([], 0, OK, "no driver"),
        (["proc/driver/nvidia/version"], 0, FAIL, "/dev/nvidiactl is not"),
        (["dev/nvidiactl"], 0, FAIL, "/proc/driver/nvidia is not"),
        (["proc/driver/nvidia/version", "dev/nvidiactl"], 2, OK, "2 GPUs; NVRM version"),
        (["proc/driver/nvidia/version", "dev/nvidiactl"], 0, FAIL, "the daemon sees no GPU (libnvidia"),
    ],
)
def test_the_drivers_files_and_the_daemons_view_must_agree(tmp_path: Path, files, gpus, level, said):
    shown = [{"present": True, "simulated": False}] * gpus
    status = {"gpus": shown, "gpu_note": "libnvidia-ml is missing", "gpu_backend": "none"}
    finding = REAL_DRIVER(status, machine(tmp_path, *files))
    assert finding.level == level
    assert said in finding.detail


def test_the_disk_is_that_of_the_nearest_directory(tmp_path: Path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    for free, level in ((1 << 20, FAIL), (1 << 30, WARN), (1 << 40, OK)):
        monkeypatch.setattr(shutil, "disk_usage", lambda place, free=free: usage._replace(free=free))
        finding = REAL_DISK(tmp_path / "not/yet")
        assert (finding.level, str(tmp_path) in finding.detail) == (level, True)


def test_tcp_without_a_token_fails(cli: Cli, monkeypatch):
    monkeypatch.setenv("LEPTOND_HOST", "http://127.0.0.1:1")
    code, found = findings(cli)
    assert code == 1
    assert found["token"]["level"] == FAIL


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 6, 23), False), ((3, 7, 0), True), ((3, 40, 1), True), ((3, 44, 5), True), ((3, 44, 6), False),
        ((3, 44, 9), False), ((3, 45, 0), True), ((3, 50, 6), True), ((3, 50, 7), False), ((3, 51, 0), True),
        ((3, 51, 2), True), ((3, 51, 3), False), ((3, 52, 0), False), ((4, 0, 0), False),
    ],
)  # fmt: skip
def test_sqlites_wal_reset_fault_is_known_by_version(version, affected: bool):
    finding = checks.sqlite(version)
    assert (finding.level == WARN) is affected
    assert ".".join(map(str, version)) in finding.detail
