"""The jobs that are measured, and the floor under them.

A job stamps the clock as the first and the last thing it does: `sh` and twice `date`, as in the figures of
the peers that the bars come from. The floor runs the same command with nothing in between.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from tests.support.daemon import TERMINAL, Daemon

STAMP = "date +%s%N"
NOOP = ["/bin/true"]


def stamping(file: Path) -> list[str]:
    """A job that leaves the nanoseconds of its first and its last instruction in `file`."""
    return ["/bin/sh", "-c", f"{STAMP} >> {file}; {STAMP} >> {file}"]


def stamp_program(place: Path) -> str:
    """The compiled stamp.c; empty without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return ""
    out = place / "stamp"
    source = Path(__file__).with_name("stamp.c")
    made = subprocess.run(
        [compiler, "-O2", "-static", "-o", str(out), str(source)], capture_output=True, check=False
    )
    return str(out) if made.returncode == 0 else ""


def stamps(file: Path) -> list[tuple[float, float]]:
    """(first, last) of each job, in milliseconds; of whole pairs only."""
    times = [int(line) / 1e6 for line in file.read_text().split()] if file.exists() else []
    return list(zip(times[::2], times[1::2], strict=False))


def gaps(file: Path) -> list[float]:
    """Milliseconds from the last instruction of each job to the first of the next."""
    return [after[0] - before[1] for before, after in pairwise(stamps(file))]


def p50(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def spawn(argv: Sequence[str]) -> None:
    """The floor: starts a program and waits for its end."""
    os.waitpid(os.posix_spawn(argv[0], list(argv), os.environ), 0)


def spawn_many(argv: Sequence[str], count: int, at_once: int) -> float:
    """Seconds for `count` of them, `at_once` at a time."""
    begin = time.perf_counter()
    for number in range(count):
        if number >= at_once:
            os.wait()
        os.posix_spawn(argv[0], list(argv), os.environ)
    for _ in range(min(count, at_once)):
        os.wait()
    return time.perf_counter() - begin


@contextlib.contextmanager
def daemon(place: Path, *, gpus: int = 1, **env: str) -> Iterator[Daemon]:
    """A daemon of its own with simulated GPUs, which takes submits as fast as they come. In the end its GPUs
    are drained, what runs is cancelled, and what waits is left."""
    settings = {
        "LEPTOND_GPUS__BACKEND": "simulated",
        "LEPTOND_GPUS__SIMULATE": str(gpus),
        "LEPTOND_HTTP__SUBMITS_PER_S": "1000000",
        "LEPTOND_HTTP__SUBMIT_BURST": "1000000",
        "LEPTOND_QUEUE__MAX_PENDING": "10000000",
        **env,
    }
    one = Daemon(place / "state", env=settings, executed=True)
    one.start()
    try:
        yield one
    finally:
        for index in range(gpus):
            one.post(f"/v1/gpus/{index}/drain")
        for job in one.get("/v1/jobs?state=starting,running,stopping&limit=1000").json["items"]:
            one.post(f"/v1/jobs/{job['id']}/cancel", {"grace_s": 0})
            one.finished(job["id"])
        one.terminate()


def submit_many(one: Daemon, bodies: Sequence[dict[str, object]]) -> list[int]:
    """The ids of new jobs, a thousand at a time."""
    ids: list[int] = []
    for at in range(0, len(bodies), 1000):
        answer = one.post("/v1/jobs:batch", {"jobs": list(bodies[at : at + 1000])})
        assert answer.status == 201, answer.data
        ids += [job["id"] for job in answer.json["jobs"]]
    return ids


def ended(one: Daemon, job: int, within_s: float = 600.0) -> None:
    """Return when the job has ended. The daemon waits; it is not polled."""
    deadline = time.monotonic() + within_s
    while one.get(f"/v1/jobs/{job}?wait_s=30").json["state"] not in TERMINAL:
        assert time.monotonic() < deadline, f"job {job} does not end"


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
