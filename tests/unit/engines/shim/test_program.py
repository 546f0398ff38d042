"""The way of an attempt through a shim, from its launch to its record."""

import json
import os
import shutil
import socket

import pytest

from leptond.base.clock import kernel_boot_id
from tests.support.daemon import until
from tests.unit.engines.shim.harness import TOP, Shim


def test_without_go_nothing_runs(tmp_path, born):
    marker = tmp_path / "ran"
    attempt = tmp_path / "a"
    attempt.mkdir()
    shim = Shim(attempt, ["touch", str(marker)])
    ready = shim.line().split()
    assert ready[0] == "READY"
    identity = json.loads((shim.standby / "identity.json").read_text())
    assert identity == {
        "boot_id": kernel_boot_id(),
        "pid": shim.process.pid,
        "start_ticks": int(ready[1]),
        "attempt_id": "a1",
    }, "without a claim"
    shim.gate.close()
    assert shim.end()["never_started"] is True
    assert not marker.exists()
    assert not shim.place.exists()


def test_with_go_it_has_its_claim_and_its_place(tmp_path, born):
    shim = Shim(tmp_path, ["sh", "-c", "echo $GPUS; exit 3"])
    shim.line()
    pid = shim.process.pid
    shim.go({"GPUS": "one,two"})
    assert shim.line().startswith("STARTED ")
    assert not shim.standby.exists()
    identity = json.loads((shim.place / "identity.json").read_text())
    assert (identity["pid"], identity["claim"]) == (pid, {"job_id": 1, "gpus": []})
    word, _, record = shim.line().partition(" ")
    assert (word, json.loads(record)["exit_code"]) == ("ENDED", 3)
    assert not (shim.place / "exit.json").exists(), "it gives the daemon the disk first"
    shim.gate.sendall(b"BOOKED\n")
    assert shim.end() == json.loads(record)
    assert (shim.place / "output.log").read_text() == "one,two\n"


def test_an_end_that_nobody_books_is_recorded_all_the_same(tmp_path, born):
    shim = Shim(tmp_path, ["true"])
    shim.line()
    shim.go()
    assert shim.process.wait(60) == 0, "the gate is open, and nobody answers"
    assert shim.end()["exit_code"] == 0


@pytest.mark.parametrize("word", [b"GO {}", b"NO\n", b"GO\n", b"GOGO {}\n"])
def test_only_the_whole_word_opens_the_gate(tmp_path, word, born):
    marker = tmp_path / "ran"
    attempt = tmp_path / "a"
    attempt.mkdir()
    shim = Shim(attempt, ["touch", str(marker)])
    shim.line()
    shim.gate.sendall(word)
    shim.gate.shutdown(socket.SHUT_WR)
    assert shim.end()["never_started"] is True
    assert not marker.exists()


def test_it_records_what_the_command_did(tmp_path, born):
    shim = Shim(tmp_path, ["sh", "-c", "echo out; echo err >&2; exit 41"])
    shim.line()
    shim.go()
    started = shim.line().split()
    record = shim.end()
    assert (record["exit_code"], record["main_pid"]) == (41, int(started[1]))
    assert (record["log_bytes"], record["log_dropped_bytes"], record["leftovers"]) == (8, 0, 0)
    assert (shim.directory / "output.log").read_text() == "out\nerr\n"
    assert (shim.directory / "output.log").stat().st_mode & 0o777 == 0o640
    assert not list(shim.directory.glob("*.tmp"))


def test_a_second_shim_for_the_same_attempt_gives_up(tmp_path, born):
    first = Shim(tmp_path, ["sleep", "600"])
    first.line()
    second = Shim(tmp_path, ["sleep", "600"])
    assert second.line().startswith("CANNOT 11 "), "the lock is taken"
    assert second.process.wait(60) != 0
    second.gate.close()
    first.gate.close()
    assert first.end()["never_started"] is True


def test_it_ignores_signals_that_are_not_for_it(tmp_path, born):
    shim = Shim(tmp_path, ["sh", "-c", "read x < fifo; exit 5"], cwd=str(tmp_path))
    os.mkfifo(tmp_path / "fifo")
    shim.line()
    shim.go()
    shim.line()
    for number in (1, 2, 3, 15, 10, 12):
        shim.process.send_signal(number)
    (tmp_path / "fifo").write_text("go\n")
    assert shim.end()["exit_code"] == 5


def test_a_job_that_removes_its_directory_still_leaves_a_record(tmp_path, born):
    attempt = tmp_path / "a"
    attempt.mkdir()
    shim = Shim(attempt, ["sh", "-c", f"rm -rf {attempt}/1/1; exit 3"])
    shim.line()
    shim.go()
    assert shim.end()["exit_code"] == 3


def test_it_needs_nothing_but_our_files_and_writes_none_there(tmp_path):
    """As in an installation that it may not write to, and where nothing was compiled."""
    copy = tmp_path / "install" / "leptond"
    shutil.copytree(TOP / "leptond", copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "__init__.py").write_text("raise ImportError('it is not asked for')")
    before = sorted(copy.rglob("*"))
    program = str(copy / "engines" / "shim" / "__main__.py")
    shim = Shim(
        tmp_path, ["sh", "-c", "echo ::leptond step=1; exit 4"], program=(program,), report_socket="/x"
    )
    assert shim.line().startswith("READY ")
    shim.go()
    assert shim.line().startswith("STARTED ")
    assert shim.end()["exit_code"] == 4
    assert sorted(copy.rglob("*")) == before


SYNCING = """
import os, sys
sys.path.append(sys.argv[1])
from leptond.engines.shim import program, supervise
supervise.PLACE_S = float(sys.argv[3])
log, fsync = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), os.fsync
def noted(fd):
    fsync(fd)
    os.write(log, os.readlink(f"/proc/self/fd/{fd}").encode() + b"\\n")
os.fsync = noted
program.main()
os._exit(0)
"""
"""The shim, with a log of what it makes durable."""


@pytest.mark.parametrize(("place_s", "command"), [(3600.0, ["true"]), (0.0, None)])
def test_the_way_to_an_exit_record_is_durable_before_it_and_early_where_the_command_runs_on(
    tmp_path, place_s, command
):
    log = tmp_path / "synced"
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    shim = Shim(
        tmp_path,
        command or ["sh", "-c", f"read x < {gate}"],
        program=("-c", SYNCING, str(TOP), str(log), str(place_s)),
    )
    assert shim.line().startswith("READY")
    before = log.read_text().splitlines()
    shim.go()
    assert shim.line().startswith("STARTED")
    place = str(shim.place)
    way = [f"{place}/identity.json", str(tmp_path / "1"), str(tmp_path)]
    if place_s == 0:
        until(lambda: log.read_text().splitlines()[len(before) :] == [*way, place], "the way is durable")
        gate.write_text("\n")
    assert shim.line().startswith("ENDED")
    shim.gate.sendall(b"BOOKED\n")
    assert shim.end()["exit_code"] == 0
    synced = log.read_text().splitlines()[len(before) :]
    record = f"{place}/.exit.json.tmp"
    assert synced == ([*way, place, record, place] if place_s == 0 else [*way, record, place])
