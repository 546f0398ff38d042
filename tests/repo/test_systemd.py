"""The units: valid, and as closed as torch allows; and what the daemon tells the service manager."""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from leptond.base.accounts import CAPABILITIES
from leptond.base.errors import EXIT_CONFIG
from leptond.base.paths import data_dir
from tests.support.daemon import Daemon

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here"
)


UNITS = ["leptond.service", "leptond-multi-user.service", "leptond-user.service"]


def runnable(unit: str, tmp_path: Path) -> Path:
    """The unit with a program that exists on this machine."""
    text = (data_dir("systemd") / unit).read_text()
    copy = tmp_path / unit
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    return copy


@needs_systemd
@pytest.mark.parametrize("unit", [*UNITS, "leptond-jobs.service"])
def test_the_unit_is_valid(unit, tmp_path):
    done = subprocess.run(
        ["systemd-analyze", "verify", str(runnable(unit, tmp_path))],
        capture_output=True,
        text=True,
        check=False,
    )
    # DelegateSubgroup= is one of systemd 254; older ones leave it out, as they are meant to
    told = [line for line in done.stderr.splitlines() if "'DelegateSubgroup'" not in line]
    assert (done.returncode, done.stdout, told) == (0, "", [])


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_tries_again_for_as_long_as_it_takes_unless_a_person_has_to_decide(unit):
    lines = (data_dir("systemd") / unit).read_text().splitlines()
    assert {"Restart=always", "StartLimitIntervalSec=0"} <= set(lines)
    assert f"RestartPreventExitStatus={EXIT_CONFIG}" in lines


@needs_systemd
@pytest.mark.parametrize(("unit", "most"), [("leptond.service", 4.0), ("leptond-multi-user.service", 5.5)])
def test_the_exposure_of_the_system_units(unit, most, tmp_path):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(runnable(unit, tmp_path))],
        capture_output=True,
        text=True,
        check=False,
    )
    line = done.stdout.strip().splitlines()[-1]
    print(line)
    assert float(re.search(r"[0-9]+\.[0-9]+", line)[0]) <= most


@needs_systemd
def test_the_exposure_of_a_daemon_whose_jobs_have_a_unit_of_their_own(tmp_path):
    """The drop-in comes after the unit, as systemd reads it; and what jobs get is as closed as ever."""
    unit = runnable("leptond.service", tmp_path)
    drop_in = (data_dir("systemd") / "leptond-tight.conf").read_text()
    unit.write_text(unit.read_text() + drop_in)
    for path, most in ((unit, 2.5), (runnable("leptond-jobs.service", tmp_path), 4.0)):
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        line = done.stdout.strip().splitlines()[-1]
        assert float(re.search(r"[0-9]+\.[0-9]+", line)[0]) <= most, line


SANDBOX = ("ReadOnly", "Protect", "Restrict", "SystemCall", "Device", "Limit", "Memory", "Private", "NoNew")


def test_the_unit_of_jobs_has_the_sandbox_that_jobs_have_without_it():
    units = [(data_dir("systemd") / name).read_text() for name in ("leptond.service", "leptond-jobs.service")]
    has, jobs = ({line for line in text.splitlines() if line.startswith(SANDBOX)} for text in units)
    assert has - jobs == {"ProtectKernelLogs=no"}  # Xid errors are the daemon's to read
    assert jobs - has == {"ProtectKernelLogs=yes"}


def test_the_unit_of_a_shared_box_leaves_the_capabilities_that_its_mode_needs():
    text = (data_dir("systemd") / "leptond-multi-user.service").read_text()
    left = re.search(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)[1].split()
    assert set(CAPABILITIES) <= set(left)
    assert "CAP_SYS_ADMIN" not in left


def test_the_service_manager_hears_ready_watchdog_and_stopping(tmp_path):
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(60)
        daemon = Daemon(
            tmp_path / "state",
            "--simulate-gpus",
            "1",
            executed=True,
            env={"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "400000"},
        )
        daemon.start()
        heard = [manager.recv(4096).decode() for _ in range(4)]
        assert heard[0].startswith("READY=1")
        assert heard[1:] == ["WATCHDOG=1"] * 3
        daemon.terminate()
        while heard[-1] == "WATCHDOG=1":
            heard.append(manager.recv(4096).decode())
        assert heard[-1] == "STOPPING=1"
