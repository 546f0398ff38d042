"""Writes the golden database of the version that stands in ``leptond/__init__.py``: a real daemon gets jobs
into every state and is killed; what it left is dumped as SQL. Once, when a release is made::

    python -m tests.golden.make                # writes tests/golden/VERSION.sql, if it is not there
    python -m tests.golden.make --out FILE     # elsewhere

A golden file is never made again for a released version: it is what that version wrote.
"""

from __future__ import annotations

import argparse
import os
import re
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from leptond import __version__
from leptond.core.jobs.model import State
from tests.support.daemon import Daemon, gone, parent_of, until

HERE = Path(__file__).parent
VERSION_LINE = re.compile(r"^PRAGMA user_version ?= ?([0-9]+);$", re.M)
STUBBORN = "trap '' TERM; echo up; while :; do sleep 1; done"


def populate(state_dir: Path) -> None:
    """A database with jobs in every state, killed in the middle of its work."""
    daemon = Daemon(state_dir, "--simulate-gpus", "4", env={"LEPTOND_QUEUE__CPU_SLOTS": "4"})
    daemon.start()
    sh, own = "/bin/sh", {"cwd": "/"}
    try:
        good = daemon.submit(sh, "-c", "echo done", gpus=1, name="good", labels={"team": "vision"}, **own)
        bad = daemon.submit(sh, "-c", "exit 7", name="bad", retries=1, retry_delay_s=0.1, **own)
        late = daemon.submit(sh, "-c", "sleep 60", name="late", time_limit_s=0.3, grace_s=0.2, **own)
        array = daemon.submit(sh, "-c", "exit 0", name="sweep", array="0-2", project="p", **own)
        unwanted = daemon.submit("true", name="gone", hold=True, **own)
        daemon.post(f"/v1/jobs/{unwanted}/cancel", {"reason": "not wanted"})
        again = daemon.finished(bad)["id"]
        lost = daemon.submit(sh, "-c", "echo up; sleep 600", name="lost", requeue=False, gpus=1, **own)
        daemon.printed(lost, "up")
        os.kill(parent_of(daemon.pid(lost)), 9)
        for job in (good, late, array, array + 1, array + 2, lost):
            daemon.finished(job)
        daemon.post(f"/v1/jobs/{again}/retry")
        trial = {"argv": [sh, "-c", "echo ::leptond step=2 total=9 loss=$1; sleep 0.5", "-", "{lr}"], **own}
        swept = {"job": {**trial, "name": "swept"}, "grid": {"lr": [0.1, 0.2, 0.3]}, "eta": 2, "min_step": 1}
        sweep = daemon.post("/v1/sweeps", swept).json["id"]
        daemon.get(f"/v1/sweeps/{sweep}?wait_s=60")
        running = daemon.submit(sh, "-c", "echo up; sleep 600", name="running", gpus=2, **own)
        stopping = daemon.submit(sh, "-c", STUBBORN, name="stopping", grace_s=600, gpus=1, **own)
        daemon.printed(running, "up")
        daemon.printed(stopping, "up")
        daemon.post(f"/v1/jobs/{stopping}/cancel")
        daemon.reached(stopping, "stopping")
        daemon.submit("true", name="held", hold=True, priority=5, **own)
        daemon.submit("true", name="waits", after=[str(running)], **own)
        daemon.submit("true", name="never", after_fail=[str(good)], **own)
        daemon.submit("true", name="later", begin_at="2100-01-01T00:00:00Z", **own)
        daemon.submit("true", name="wide", gpus=4, **own)
        backoff = daemon.submit("false", name="backoff", retries=3, retry_delay_s=3600, **own)
        until(lambda: daemon.job(backoff)["reason"] == "Backoff", "a job in back-off")
        daemon.post("/v1/gpus/3/drain", {"reason": "fan"})
        keyed = {"argv": ["true"], "hold": True, "name": "keyed", **own}
        answer = daemon.post("/v1/jobs", keyed, Idempotency_Key="k")
        assert answer.status == 201, answer.data
        daemon.submit("true", name="folded", array="0-4999", hold=True, **own)
        starting = daemon.submit("true", name="starting", hold=True, **own)
        pids = [daemon.pid(job) for job in (running, stopping)]
    finally:
        daemon.kill()
    _start(state_dir / "leptond.db", starting)
    for pid in pids:
        shim = parent_of(pid)
        os.kill(pid, 9)
        assert gone(shim), "it still writes into the directory that is about to be removed"


def _start(database: Path, job_id: int) -> None:
    """A crash between the claim and the start leaves a job as `starting`; a daemon is there for
    milliseconds, so its one statement is repeated here."""
    db = sqlite3.connect(database)
    db.execute(
        "UPDATE jobs SET held = 0, hold_reason = NULL, state = 'starting', attempt = 1 WHERE id = ?",
        (job_id,),
    )
    db.execute(
        "INSERT INTO attempts (id, job_id, number, state, n_gpus, claimed_at, claimed_boot, boot_id)"
        " SELECT 'ffffffffffffffffffffffffffffffff', ?, 1, 'starting', 0, ?, 1.0, value FROM meta"
        " WHERE key = 'boot_id'",
        (job_id, time.time()),
    )
    db.execute(
        "INSERT INTO events (at, type, job_id, attempt, data) VALUES (?, 'job.state', ?, 1, ?)",
        (time.time(), job_id, '{"from":"pending","to":"starting","gpus":[]}'),
    )
    db.commit()
    db.close()


def dump(database: Path) -> str:
    """A database as SQL text, with its schema number."""
    db = sqlite3.connect(database)
    try:
        number = db.execute("PRAGMA user_version").fetchone()[0]
        return "\n".join([*db.iterdump(), f"PRAGMA user_version = {number};", ""])
    finally:
        db.close()


def build(text: str, database: Path) -> int:
    """The database that a golden text describes; its schema number."""
    db = sqlite3.connect(database, isolation_level=None)
    try:
        db.executescript(text)
        db.execute("PRAGMA journal_mode = WAL")
        number: int = db.execute("PRAGMA user_version").fetchone()[0]
        return number
    finally:
        db.close()


def make() -> str:
    """The dump of a fresh golden database; it has jobs in every state."""
    with tempfile.TemporaryDirectory(prefix="gold") as place:
        state = Path(place) / "state"
        populate(state)
        db = sqlite3.connect(state / "leptond.db")
        states = {row[0] for row in db.execute("SELECT DISTINCT state FROM jobs")}
        db.close()
        missing = set(State) - states
        if missing:
            raise AssertionError(f"no job is {', '.join(sorted(missing))}")
        return dump(state / "leptond.db")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / f"{__version__}.sql")
    out: Path = parser.parse_args().out
    if out.exists():
        sys.exit(f"{out} is there: a golden database is made once, for a release")
    out.write_text(make())
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
