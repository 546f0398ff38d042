"""How fast a queue of jobs that do nothing is worked off."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.benchmarks.jobs import NOOP, daemon, spawn_many, submit_many
from tests.benchmarks.peers import MOST_QUEUED, TSP, TaskSpooler, missing
from tests.benchmarks.rows import Row
from tests.daemon import until

JOBS = 1000
SLOTS = 4


def run(place: Path, runs: int) -> list[Row]:
    """Jobs a second on four slots. All are queued before the first starts, and the clock runs from the moment
    when the slots are let go of until the last has ended."""
    floor, ours, tsp = [], [], []
    for number in range(runs):
        here = place / str(number)
        here.mkdir(parents=True)
        floor.append(JOBS / spawn_many(NOOP, JOBS, SLOTS))
        if not missing(TSP):
            tsp.append(_tsp(here))
        ours.append(_leptond(here))
    common = {
        "unit": "jobs/s",
        "leptond": tuple(ours),
        "floor": tuple(floor),
        "peers": {TSP: tuple(tsp)} if tsp else {},
        "better": "higher",
    }
    return [
        Row(figure=f"drain of {JOBS:,} no-op jobs, {SLOTS} slots", bar=200.0, note=missing(TSP), **common),
        Row(figure="drain against task-spooler", against=TSP, stretch=1.0, note=missing(TSP), **common),
    ]


def _leptond(here: Path) -> float:
    gate = here / "gate"
    os.mkfifo(gate)
    with daemon(here, LEPTOND_QUEUE__CPU_SLOTS=str(SLOTS)) as one:
        blockers = submit_many(one, [{"argv": ["/bin/sh", "-c", f"read x < {gate}"]}] * SLOTS)
        for job in blockers:
            one.reached(job, "running")
        ids = submit_many(one, [{"argv": NOOP}] * JOBS)
        begin = time.perf_counter()
        with gate.open("w") as file:
            for _ in range(SLOTS):
                file.write("\n")
                file.flush()
        one.finished(ids[-1])
        until(lambda: one.get("/v1/status").json["counts"]["succeeded"] == JOBS + SLOTS, "the end of all")
        return JOBS / (time.perf_counter() - begin)


def _tsp(here: Path) -> float:
    with TaskSpooler(here / "tsp", SLOTS) as peer:
        peer.close_gate()
        for _ in range(MOST_QUEUED):
            peer.submit(NOOP)
        begin = time.perf_counter()
        peer.open_gate()
        peer.wait()
        return MOST_QUEUED / (time.perf_counter() - begin)
