"""A full disk: submits are refused before it, running jobs go on, and how they end is recorded."""

import contextlib
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import PATIENCE_S, Daemon, gone, until

MIB = 1 << 20
ENV = {
    "LEPTOND_STORAGE__MIN_FREE_BYTES": str(8 * MIB),
    "LEPTOND_STORAGE__BALLAST_BYTES": str(4 * MIB),
    "LEPTOND_QUEUE__CPU_SLOTS": "4",
}
WAITS = "echo up; while [ ! -e {go} ]; do sleep 0.05; done; exit 7"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")


@contextlib.contextmanager
def small_disk(place: Path, size: int):
    """A file system of so many bytes."""
    place.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> Path:
    """Takes every byte that is free."""
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(64 * 1024))
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(512))
    assert os.statvfs(place).f_bavail == 0
    return filler


def refused(daemon: Daemon) -> None:
    before = stored(daemon)
    answer = daemon.post("/v1/jobs", {"argv": ["true"]})
    assert answer.status == 507, answer.data
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert "min_free_bytes" in answer.json["hint"]
    assert stored(daemon) == before, "and nothing was stored"


def stored(daemon: Daemon) -> int:
    """How many jobs there are, whatever state they are in by now."""
    return sum(daemon.get("/v1/status").json["counts"].values())


def sound(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_the_disk_of_everything_fills(tmp_path):
    go = tmp_path / "go"
    with small_disk(tmp_path / "d", 48 * MIB) as disk:
        one = Daemon(disk / "state", "--simulate-gpus", "2", env=ENV)
        one.log = tmp_path / "daemon.log"
        one.start()
        try:
            ballast = disk / "state" / "ballast"
            until(ballast.exists, "the ballast")
            jobs = [one.submit("sh", "-c", WAITS.format(go=go), gpus=gpus) for gpus in (1, 0)]
            for job in jobs:
                one.printed(job, "up")
            held = one.submit("true", hold=True)
            filler = fill(disk)
            until(
                lambda: one.post("/v1/jobs", {"argv": ["true"]}).status == 507, "the look at the disk is new"
            )
            refused(one)
            pids = [one.pid(job) for job in jobs]
            assert [one.job(job)["state"] for job in jobs] == ["running", "running"], (
                "nobody is stopped for it"
            )
            go.touch()
            for pid in pids:
                assert gone(pid)
            for job in jobs:  # the disk is still full: what the ballast held is room enough
                done = one.finished(job)
                assert (done["state"], done["exit_code"], done["attempt"]) == ("failed", 7, 1)
            one.kill()
            one.start()  # a start on the full disk finds its way too
            refused(one)
            one.kill()
            fill(disk)
            for _ in range(2):  # without a byte of room it says so, and is tried again
                one.launch()
                assert one.process.wait(PATIENCE_S) == 75
                assert "Make room first" in one.tail()
            filler.unlink()
            one.start()
            until(ballast.exists, "the ballast is laid out again")
            assert until(lambda: (a := one.post("/v1/jobs", {"argv": ["true"]})).status == 201 and a, "room")
            one.post(f"/v1/jobs/{held}/release")
            assert one.finished(held)["state"] == "succeeded"
            one.terminate()
            sound(disk / "state" / "leptond.db")
        finally:
            one.close()


def test_the_disk_of_the_jobs_fills(tmp_path):
    """Output is dropped, the end is not: its room was taken before the command began."""
    go = tmp_path / "go"
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    with small_disk(state / "jobs", 16 * MIB) as disk:
        one = Daemon(state, "--simulate-gpus", "1", env=ENV)
        one.start()
        try:
            job = one.submit("sh", "-c", WAITS.format(go=go), gpus=1)
            one.printed(job, "up")
            waits = one.submit("true", gpus=1)
            filler = fill(disk)
            until(
                lambda: one.post("/v1/jobs", {"argv": ["true"]}).status == 507, "the look at the disk is new"
            )
            refused(one)
            go.touch()
            done = one.finished(job)
            assert (done["state"], done["exit_code"]) == ("failed", 7)
            assert one.job(waits)["state"] == "pending", "nothing starts where it cannot leave its end"
            filler.unlink()
            assert one.finished(waits)["state"] == "succeeded"
            assert one.job(waits)["attempt"] == 1, "and it has paid for nothing"
        finally:
            one.close()
