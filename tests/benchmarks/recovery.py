"""A daemon that was killed with a long history, a full queue and running jobs: how soon it is back."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import ADOPTED, HISTORY, QUEUED, row
from tests.benchmarks.jobs import daemon, submit_many
from tests.benchmarks.rows import Row
from tests.support.daemon import Daemon, UnixConnection

PATIENCE_S = 120.0


def run(bench: Bench) -> list[Row]:
    """kill -9, a new start, and the time until anything is answered and until all is adopted (it is ready).
    The floor imports the daemon and does nothing."""
    floor, answered, adopted = [], [], []
    with daemon(bench.place, gpus=ADOPTED) as one:
        with bench.load.paused():
            _fill(one)
        jobs = submit_many(one, [{"argv": ["sleep", "3600"], "gpus": 1}] * ADOPTED)
        for job in jobs:
            one.reached(job, "running")
        waiting = submit_many(one, [{"argv": ["true"], "gpus": 1}] * QUEUED)
        for _ in range(bench.runs):
            floor.append(_imports())
            one.kill()
            begin = time.perf_counter()
            one.launch()
            answered.append(_until(one, "/healthz", begin))
            adopted.append(_until(one, "/readyz", begin))
            assert [one.job(job)["state"] for job in jobs] == ["running"] * ADOPTED
            assert one.job(waiting[0])["state"] == "pending"
    note = "floor: the imports alone"
    return [
        row("answered", bench.load, answered, floor=floor, note=note),
        row("adopted", bench.load, adopted, floor=floor, note=note),
    ]


def _imports() -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import leptond.daemon.app"], check=True, timeout=60)
    return time.perf_counter() - begin


def _until(one: Daemon, path: str, begin: float) -> float:
    """Seconds from `begin` until that path answers with 200."""
    assert one.process is not None
    while time.perf_counter() - begin < PATIENCE_S:
        assert one.process.poll() is None, one.tail()
        with contextlib.suppress(OSError), contextlib.closing(UnixConnection(one.socket)) as connection:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return time.perf_counter() - begin
        time.sleep(0.005)
    raise AssertionError(f"no answer at {path}:\n{one.tail()}")


def _fill(one: Daemon) -> None:
    """A history of jobs that have ended. They are submitted as all are; that they ran is then written into
    the database by the legal moves, with the attempt of a job that really ran."""
    real = one.submit("true")
    one.finished(real)
    ids = submit_many(one, [{"argv": ["true"], "hold": True}] * HISTORY)
    assert one.terminate() == 0
    db = sqlite3.connect(one.state_dir / "leptond.db", isolation_level=None)
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("BEGIN IMMEDIATE")
    span = (ids[0], ids[-1])
    for state in ("starting", "running"):
        db.execute("UPDATE jobs SET state = ?, held = 0 WHERE id BETWEEN ? AND ?", (state, *span))
    columns = [row[1] for row in db.execute("PRAGMA table_info(attempts)")]
    taken = [
        {"id": "lower(hex(randomblob(16)))", "job_id": "jobs.id"}.get(name, f"a.{name}") for name in columns
    ]
    db.execute(
        f"INSERT INTO attempts ({', '.join(columns)}) SELECT {', '.join(taken)} FROM jobs, attempts AS a"
        " WHERE a.job_id = ? AND jobs.id BETWEEN ? AND ?",
        (real, *span),
    )
    db.execute(
        "UPDATE jobs SET state = 'succeeded', started_at = submitted_at, ended_at = submitted_at,"
        " attempt = 1, exit_code = 0, class = 'ok', explanation = 'exit code 0' WHERE id BETWEEN ? AND ?",
        span,
    )
    db.execute("COMMIT")
    db.close()
    os.sync()
    one.start()
