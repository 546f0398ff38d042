"""Measures what a user waits for, beside the floor that this machine sets at this moment.

    python -m tests.benchmarks [--jobs 100] [--json FILE]

Clock times of a busy machine wander, so each figure stands beside a floor from the same run: a bare spawn
loop, a bare SQLite commit, a bare interpreter; and beside task-spooler where it is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.daemon import Daemon, UnixConnection, until

PYTHON = sys.executable
STAMP = "date +%s%N"


class Row:
    """A figure: p50 and p95 in `unit`, and what it is measured against."""

    def __init__(self, what: str, values: list[float], unit: str, floor: str = "") -> None:
        ordered = sorted(values)
        self.what, self.unit, self.floor = what, unit, floor
        self.p50 = statistics.median(ordered)
        self.p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
        self.n = len(ordered)


def main() -> None:
    """Runs all benchmarks."""
    parser = argparse.ArgumentParser(description="leptond's benchmarks")
    parser.add_argument("--jobs", type=int, default=100, help="jobs for the hand-over gap")
    parser.add_argument("--json", type=Path, help="also write the rows there")
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="leptond-bench-") as place:
        directory = Path(place)
        for part in (startup, commits, submits, handover, drain, memory):
            print(f"  {part.__name__} ...", file=sys.stderr, flush=True)
            rows += part(directory / part.__name__, options.jobs)
    show(rows)
    if options.json:
        options.json.write_text(json.dumps([vars(row) for row in rows], indent=2) + "\n")


def show(rows: list[Row]) -> None:
    """The table."""
    table = Table(title="leptond benchmarks", title_justify="left")
    table.add_column("what")
    for head in ("p50", "p95", "unit", "n", "beside"):
        table.add_column(head, justify="left" if head in ("unit", "beside") else "right")
    for row in rows:
        table.add_row(row.what, f"{row.p50:,.2f}", f"{row.p95:,.2f}", row.unit, str(row.n), row.floor)
    Console(width=110).print(table)


def timed(work: Callable[[], object], times: int) -> list[float]:
    """Milliseconds of each of `times` calls."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        found.append((time.perf_counter() - begin) * 1000)
    return found


@contextlib.contextmanager
def daemon(directory: Path, **env: str) -> Iterator[Daemon]:
    """A daemon with one simulated GPU, or as the environment says."""
    one = Daemon(
        directory / "state", env={"LEPTOND_GPUS__BACKEND": "simulated", "LEPTOND_GPUS__SIMULATE": "1", **env}
    )
    one.start()
    try:
        yield one
    finally:
        one.close()


def startup(directory: Path, jobs: int) -> list[Row]:
    """A whole `leptonctl status`, piped, against the bare interpreter."""
    with daemon(directory) as one:
        env = {**one.env, "LEPTOND_HOST": f"unix://{one.socket}"}

        def run(*command: str) -> Callable[[], object]:
            return lambda: subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)

        bare = timed(run(PYTHON, "-c", "pass"), 20)
        http = timed(run(PYTHON, "-c", "import http.client, json"), 20)
        status = timed(run(PYTHON, "-m", "leptond.cli", "status"), 20)
        submit = timed(run(PYTHON, "-m", "leptond.cli", "submit", "-q", "--hold", "--", "true"), 20)
    return [
        Row("floor: python -c pass", bare, "ms"),
        Row("floor: python with http.client, json", http, "ms"),
        Row("leptonctl status, whole process", status, "ms", ratio(status, bare, "bare python")),
        Row("leptonctl submit, whole process", submit, "ms", ratio(submit, bare, "bare python")),
    ]


def ratio(one: list[float], other: list[float], name: str) -> str:
    """How many times the floor."""
    return f"{statistics.median(one) / statistics.median(other):.1f} x {name}"


def commits(directory: Path, jobs: int) -> list[Row]:
    """What one durable commit costs here."""
    directory.mkdir()
    db = sqlite3.connect(directory / "floor.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE t (x)")
    values = timed(lambda: db.execute("INSERT INTO t VALUES (1)"), 200)
    db.close()
    return [Row("floor: SQLite commit, WAL, FULL", values, "ms")]


def submits(directory: Path, jobs: int) -> list[Row]:
    """Durable submits over the Unix socket: one at a time, and a thousand at once."""
    with daemon(directory) as one:
        connection = UnixConnection(one.socket)
        body = json.dumps({"argv": ["true"], "hold": True}).encode()
        headers = {"Content-Type": "application/json"}

        def submit() -> None:
            connection.request("POST", "/v1/jobs", body, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 201

        def submit_anew() -> None:
            assert one.request("POST", "/v1/jobs", body).status == 201

        kept = timed(submit, 100)
        fresh = timed(submit_anew, 100)
        connection.close()
        batch = {"jobs": [{"argv": ["true"], "hold": True}] * 1000}
        bulk = timed(lambda: one.post("/v1/jobs:batch", batch), 5)
    return [
        Row("submit, kept connection", kept, "ms"),
        Row("submit, new connection", fresh, "ms"),
        Row("bulk submit, batches of 1,000", [1000 / (ms / 1000) for ms in bulk], "jobs/s"),
    ]


def gaps(file: Path) -> list[float]:
    """Milliseconds from the last stamp of each job to the first of the next."""
    stamps = [int(line) / 1e6 for line in file.read_text().split()]
    pairs = list(zip(stamps[::2], stamps[1::2], strict=True))
    return [after[0] - before[1] for before, after in pairwise(pairs)]


def handover(directory: Path, jobs: int) -> list[Row]:
    """From the last instruction of a job to the first of the next on the same GPU. Each gap holds the
    start of the job's own `sh` and `date`; so does the floor's."""
    directory.mkdir()
    floor_file, file = directory / "floor", directory / "stamps"

    def job(target: Path) -> list[str]:
        return ["/bin/sh", "-c", f"{STAMP} >> {target}; {STAMP} >> {target}"]

    for _ in range(jobs):
        os.waitpid(os.posix_spawn("/bin/sh", job(floor_file), os.environ), 0)
    floor = gaps(floor_file)
    with daemon(directory) as one:
        bodies = [{"argv": job(file), "gpus": 1} for _ in range(jobs)]
        queued = one.post("/v1/jobs:batch", {"jobs": bodies}).json["jobs"]
        one.finished(queued[-1]["id"])  # waits without asking again and again, which would slow it
    ours = gaps(file)
    rows = [
        Row("floor: hand-over gap of a bare spawn loop", floor, "ms"),
        Row(f"hand-over gap, one GPU, {jobs} jobs", ours, "ms", ratio(ours, floor, "bare spawn loop")),
    ]
    return rows + task_spooler(directory, jobs, job)


def task_spooler(directory: Path, jobs: int, job: Callable[[Path], list[str]]) -> list[Row]:
    """The same jobs through task-spooler, if it is here."""
    program = shutil.which("tsp")
    if program is None:
        print("  (task-spooler is not installed: skipped)", file=sys.stderr)
        return []
    file = directory / "tsp"
    env = {**os.environ, "TS_SOCKET": str(directory / "tsp.sock")}
    try:
        for _ in range(jobs):
            subprocess.run([program, "-n", *job(file)], env=env, stdout=subprocess.DEVNULL, check=True)
        until(lambda: file.exists() and len(file.read_text().split()) == 2 * jobs, "all jobs")
    finally:
        subprocess.run([program, "-K"], env=env, check=False)
    return [Row("peer: task-spooler, same jobs", gaps(file), "ms")]


def drain(directory: Path, jobs: int) -> list[Row]:
    """No-op jobs a second on four CPU slots."""
    count = 4 * jobs
    with daemon(directory, LEPTOND_QUEUE__CPU_SLOTS="4") as one:
        begin = time.perf_counter()
        queued = one.post("/v1/jobs:batch", {"jobs": [{"argv": ["true"]}] * count}).json["jobs"]
        one.finished(queued[-1]["id"])
        until(lambda: one.get("/v1/status").json["counts"]["succeeded"] == count, "the last of all jobs")
        seconds = time.perf_counter() - begin
    return [Row("drain of no-op jobs, 4 slots", [count / seconds], "jobs/s")]


def memory(directory: Path, jobs: int) -> list[Row]:
    """Resident memory of the daemon: idle, and with 10,000 jobs pending."""
    with daemon(directory) as one:
        idle = resident(one)
        for _ in range(10):
            one.post("/v1/jobs:batch", {"jobs": [{"argv": ["true"], "hold": True}] * 1000})
        listed = timed(lambda: one.get("/v1/jobs?order=queue&limit=50"), 20)
        deep = resident(one)
        one.kill()  # nothing runs, and cancelling 10,000 jobs takes long
        shutil.rmtree(one.state_dir)
    return [
        Row("daemon memory, idle", [idle], "MiB"),
        Row("daemon memory, 10,000 pending", [deep], "MiB"),
        Row("list of 50 at 10,000 pending", listed, "ms"),
    ]


def resident(one: Daemon) -> float:
    """Resident set in MiB."""
    assert one.process is not None
    pages = int(Path(f"/proc/{one.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
