"""A deep queue beside an empty one: what a million pending jobs do to the hand-over, to a submit, to the
status and to the daemon's memory; and how long a purge keeps the writer from others."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import DEEP_GAP, DEEP_START, DEEP_STATUS, PENDING, PURGED, row
from tests.benchmarks.jobs import daemon, gaps, p50, resident_mb, stamping, stamps, submit_many
from tests.benchmarks.rows import Row
from tests.support.daemon import Daemon

BATCH = 10_000
JOBS = 40
CALLS = 15
SETTLE_S = 5.0


def run(bench: Bench) -> list[Row]:
    """Three daemons at a time, asked in turn: with nothing in the queue, with a million jobs, each submitted
    for itself, and with as many members of ten arrays. The jobs of the gap wait for the GPU, as the million
    do, and come before them."""
    place = bench.place
    figures: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        empty = stack.enter_context(daemon(place / "empty"))
        deep = {
            "jobs": stack.enter_context(daemon(place / "jobs")),
            "members of arrays": stack.enter_context(daemon(place / "arrays")),
        }
        idle = _memory(empty)
        for one in (empty, *deep.values()):
            one.post("/v1/gpus/0/drain")
        with bench.load.paused():
            _fill_with_jobs(deep["jobs"])
            _fill_with_arrays(deep["members of arrays"])
            os.sync()  # a gigabyte was written: what is measured is not the disk that takes it in
            time.sleep(SETTLE_S)
        for number in range(bench.runs):
            for name, one in (("", empty), *deep.items()):
                file = place / f"{name.replace(' ', '-')}-{number}"
                for what, value in (
                    (DEEP_GAP, _gap(one, Path(f"{file}-gap"))),
                    (DEEP_START, _start(one, Path(f"{file}-start"))),
                    (DEEP_STATUS, _status(one)),
                ):
                    figures.setdefault(what, {}).setdefault(name, []).append(value)
                if name:
                    figures.setdefault("memory", {}).setdefault(name, []).append(_memory(one) - idle)
    note = "floor: the same with an empty queue"
    rows = [
        row(f"{what}, {kind}", bench.load, figures[what][kind], floor=figures[what][""], note=note)
        for what in (DEEP_GAP, DEEP_START, DEEP_STATUS)
        for kind in deep
    ]
    rows += [row(f"memory, {kind}", bench.load, figures["memory"][kind]) for kind in deep]
    return [*rows, _purge(bench)]


def _fill_with_jobs(one: Daemon) -> None:
    job = {"argv": ["true"], "gpus": 1, "priority": -10}
    for _ in range(PENDING // BATCH):
        answer = one.post("/v1/jobs:batch", {"jobs": [job] * BATCH})
        assert answer.status == 201, answer.data[:500]


def _fill_with_arrays(one: Daemon) -> None:
    for _ in range(10):
        body = {"argv": ["true"], "gpus": 1, "priority": -10, "array": f"0-{PENDING // 10 - 1}"}
        answer = one.post("/v1/jobs", body)
        assert answer.status == 201, answer.data[:500]


def _with_gpu(one: Daemon, work: Callable[[], int]) -> None:
    """`work` while the GPU is in service; it is taken out again when the job whose id `work` gave has ended.
    Some of those that wait may run then: they are far from the end."""
    last = work()
    one.post("/v1/gpus/0/undrain")
    one.finished(last)
    one.post("/v1/gpus/0/drain")
    for job in one.get("/v1/jobs?state=starting,running,stopping").json["items"]:
        one.finished(job["id"])


def _gap(one: Daemon, file: Path) -> float:
    body = {"argv": stamping(file), "gpus": 1, "priority": 100}
    _with_gpu(one, lambda: submit_many(one, [body] * JOBS)[-1])
    return p50(gaps(file))


def _start(one: Daemon, file: Path) -> float:
    """On a CPU slot, for the GPU is out of service: the daemon is idle, and the queue as deep as it is."""
    asked = []
    for _ in range(JOBS):
        time.sleep(0.05)
        asked.append(time.time_ns() / 1e6)
        one.finished(one.submit(*stamping(file)))
    return p50([first - at for at, (first, _) in zip(asked, stamps(file), strict=True)])


def _status(one: Daemon) -> float:
    program = Path(sys.executable).with_name("leptonctl")
    command = [str(program)] if program.exists() else [sys.executable, "-m", "leptond.cli"]
    env = {**os.environ, "LEPTOND_HOST": f"unix://{one.socket}"}
    took = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        subprocess.run([*command, "status"], env=env, stdout=subprocess.DEVNULL, check=True)
        took.append((time.perf_counter() - begin) * 1000)
    return p50(took)


def _memory(one: Daemon) -> float:
    assert one.process is not None
    return resident_mb(one.process.pid)


def _purge(bench: Bench) -> Row:
    """Submits while the retention forgets jobs, and the same without it: the longest wait of a run."""
    floor, ours = [], []
    with daemon(bench.place / "purge") as one:
        for _ in range(bench.runs):
            jobs = submit_many(one, [{"argv": ["true"], "hold": True}] * PURGED)
            body = {"argv": ["true"], "hold": True, "array": f"0-{PURGED - 1}"}
            array = one.post("/v1/jobs", body).json["id"]
            _cancelled(one, jobs)
            one.post(f"/v1/arrays/{array}/cancel")
            floor.append(_longest(one, 1.0))
            stop = threading.Event()
            purge = threading.Thread(target=_forget_all, args=(one, stop))
            purge.start()
            ours.append(_longest(one, 60.0, stop))
            purge.join()
            left = one.get("/v1/jobs?state=cancelled").json["items"]
            assert left == [], left[0]
    return row("purge", bench.load, ours, floor=floor, note="floor: the longest of a second without")


def _cancelled(one: Daemon, jobs: list[int]) -> None:
    """Ends pending jobs by the legal move, at once and while no daemon looks."""
    assert one.terminate() == 0
    db = sqlite3.connect(one.state_dir / "leptond.db", isolation_level=None)
    db.execute(
        "UPDATE jobs SET state = 'cancelled', class = 'cancelled', ended_at = submitted_at"
        " WHERE id BETWEEN ? AND ?",
        (jobs[0], jobs[-1]),
    )
    db.close()
    one.start()


def _forget_all(one: Daemon, done: threading.Event) -> None:
    try:
        assert one.post("/v1/purge", {"older_than_s": 0.001}).status == 200
    finally:
        done.set()


def _longest(one: Daemon, seconds: float, stop: threading.Event | None = None) -> float:
    worst, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end and not (stop is not None and stop.is_set()):
        begin = time.perf_counter()
        one.submit("true", hold=True)
        worst = max(worst, time.perf_counter() - begin)
    return worst * 1000
