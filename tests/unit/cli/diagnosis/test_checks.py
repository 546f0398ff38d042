"""Faults of a machine, each planted; beside it the same check where all is well."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from leptond.cli.diagnosis import checks
from leptond.cli.diagnosis.finding import FAIL, OK, WARN, Finding


def one(found: Finding | Iterable[Finding]) -> Finding:
    return found if isinstance(found, Finding) else next(iter(found))


def executable(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return file


def test_a_configuration_that_the_daemon_refuses(home: Path):
    file = home / "XDG_CONFIG_HOME/leptond/config.toml"
    assert checks.configuration().level == OK
    file.parent.mkdir()
    file.write_text("[jobs]\ngrace = 3\n")
    found = checks.configuration()
    assert found.level == FAIL
    assert "unknown field `grace`" in found.detail


def test_two_installations_in_each_others_way(tmp_path: Path):
    mine = executable(tmp_path / "a/leptonctl", "")
    executable(tmp_path / "a/leptond", "")
    executable(tmp_path / "b/leptond", "")
    assert checks.program(mine, str(tmp_path / "a")).level == OK
    found = checks.program(mine, f"{tmp_path}/b:{tmp_path}/a")
    assert (found.level, "another installation" in found.detail) == (WARN, True)


def test_a_unit_whose_program_is_gone(tmp_path: Path):
    unit, program = tmp_path / "leptond.service", tmp_path / "venv/leptond"
    unit.write_text(f"[Service]\nExecStart={program} run\n")
    found = one(checks.unit((tmp_path / "none", unit)))
    assert (found.level, str(program) in found.detail) == (FAIL, True)
    executable(program, "")
    assert one(checks.unit((unit,))).level == OK


def test_a_group_that_the_session_does_not_know_of_yet():
    members = {"leptond": (987, ["ana"])}
    socket = "/run/leptond/leptond.sock"
    assert one(checks.group(socket, "ana", frozenset({1000}), members)).level == FAIL
    assert not list(checks.group(socket, "ana", frozenset({1000, 987}), members))
    assert not list(checks.group(socket, "bo", frozenset({1000}), members))
    assert not list(checks.group("/home/ana/x.sock", "ana", frozenset({1000}), members))


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw shared:2 - nfs4 server:/home rw
31 30 8:2 / /home/local\\040disk rw shared:3 - xfs /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("place", "level", "kind"),
    [("/var/lib/x", OK, "ext4"), ("/home/ana/x", FAIL, "nfs4"), ("/home/local disk/x", OK, "xfs")],
)
def test_a_database_on_a_network_disk(tmp_path: Path, place: str, level: str, kind: str):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(MOUNTS)
    found = checks.network_disk(Path(place), tmp_path)
    assert (found.level, kind in found.detail) == (level, True)


def test_little_shared_memory():
    assert checks.shared_memory(64 << 20).level == WARN
    assert checks.shared_memory(None).level == WARN
    assert checks.shared_memory(8 << 30).level == OK


def test_few_open_files(tmp_path: Path):
    (tmp_path / "proc/7").mkdir(parents=True)
    limits = "Limit                     Soft Limit           Hard Limit           Units\n"
    for number, level in ((1024, WARN), (131072, OK)):
        (tmp_path / "proc/7/limits").write_text(f"{limits}Max open files            1024  {number}  files\n")
        assert one(checks.open_files(7, tmp_path)).level == level
    assert not list(checks.open_files(8, tmp_path))


def test_no_place_for_temporary_files(tmp_path: Path):
    assert checks.temporary({"TMPDIR": str(tmp_path)}).level == OK
    assert checks.temporary({"TMPDIR": str(tmp_path / "none")}).level == WARN


def test_gpus_out_of_service_and_simulated_ones_beside_a_driver(tmp_path: Path):
    gpu = {"index": 3, "schedulable": False, "drained": True, "why_not": "drained: fan", "simulated": True}
    found = one(checks.out_of_service({"gpus": [gpu]}))
    assert (found.level, found.check, found.detail) == (WARN, "GPU 3", "drained: fan")
    assert "undrain 3" in str(found.fix)
    assert not list(checks.out_of_service({"gpus": [{**gpu, "schedulable": True}]}))
    assert not list(checks.simulated({"gpus": [gpu]}, tmp_path))
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text("560")
    assert one(checks.simulated({"gpus": [gpu]}, tmp_path)).level == WARN


def test_no_backup_and_an_old_one():
    now = datetime(2026, 3, 4, tzinfo=UTC)
    for taken, level in (
        ([], WARN),
        (["2026-02-01T00:00:00Z"], WARN),
        (["2026-02-01T00:00:00Z", "2026-03-03T12:00:00Z"], OK),
    ):
        database = {"backups": [{"taken_at": at} for at in taken]}
        assert checks.backups(database, datetime(2026, 1, 1, tzinfo=UTC), now).level == level
    assert checks.backups({"backups": []}, now, now).level == OK, "it has just been installed"


@pytest.mark.parametrize(
    ("said", "level", "words"),
    [
        ("echo 2.9.0 12.8 True", OK, "with CUDA 12.8"),
        ("echo 2.9.0+cpu None False", WARN, "a build without CUDA"),
        ("echo 2.9.0 13.0 False", WARN, "does not fit the driver"),
        ("echo 'ImportError: libcudart' >&2; exit 1", WARN, "libcudart"),
    ],
)
def test_a_torch_that_sees_no_gpu(tmp_path: Path, said: str, level: str, words: str):
    python = executable(tmp_path / "python", f"#!/bin/sh\n{said}\n")
    found = one(checks.torch(str(python)))
    assert (found.level, words in found.detail) == (level, True)


def test_an_interpreter_without_torch_is_no_fault(tmp_path: Path):
    said = "echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1"
    assert not list(checks.torch(str(executable(tmp_path / "python", f"#!/bin/sh\n{said}\n"))))
    assert not list(checks.torch(None))
