"""Throughput of a queue of jobs that do nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import DRAIN_JOBS, SLOTS, SLURM, TSP, row
from tests.benchmarks.jobs import NOOP, daemon, ended, spawn_many, submit_many
from tests.benchmarks.peers import (
    MOST_QUEUED,
    RUNS_NO_JOBS,
    TaskSpooler,
    patiently,
    sbatch,
    slurm,
    slurm_calls,
)
from tests.benchmarks.rows import Row
from tests.support.daemon import until

SLURM_JOBS = 40
SLURM_PATIENCE_S = 120.0


def run(bench: Bench) -> list[Row]:
    """Jobs a second on four slots. All are queued before the first starts, and the clock runs from the moment
    when the slots are let go of until the last has ended. Slurm gets fewer, and once."""
    floor, ours, tsp = [], [], []
    for _, here in bench.rounds():
        floor.append(DRAIN_JOBS / spawn_many(NOOP, DRAIN_JOBS, SLOTS))
        if not bench.lacks(TSP):
            tsp.append(_tsp(here))
        ours.append(_leptond(here))
    slow = None if bench.lacks(SLURM) else _slurm(bench.place)
    told = bench.lacks(SLURM) or ("" if slow is not None else RUNS_NO_JOBS)
    note = "; ".join(dict.fromkeys(word for word in (bench.lacks(TSP), told) if word))
    common = {"floor": floor, "peers": {TSP: tsp, SLURM: [slow] if slow is not None else []}}
    return [
        row("drain", bench.load, ours, note=note, **common),
        row("drain_tsp", bench.load, ours, note=bench.lacks(TSP), **common),
    ]


def _leptond(here: Path) -> float:
    gate = here / "gate"
    os.mkfifo(gate)
    with daemon(here, LEPTOND_QUEUE__CPU_SLOTS=str(SLOTS)) as one:
        blockers = submit_many(one, [{"argv": ["/bin/sh", "-c", f"read x < {gate}"]}] * SLOTS)
        for job in blockers:
            one.reached(job, "running")
        ids = submit_many(one, [{"argv": NOOP}] * DRAIN_JOBS)
        begin = time.perf_counter()
        with gate.open("w") as file:
            for _ in range(SLOTS):
                file.write("\n")
                file.flush()
        ended(one, ids[-1])
        until(
            lambda: one.get("/v1/status").json["counts"]["succeeded"] == DRAIN_JOBS + SLOTS, "the end of all"
        )
        return DRAIN_JOBS / (time.perf_counter() - begin)


def _tsp(here: Path) -> float:
    with TaskSpooler(here / "tsp", SLOTS) as peer:
        peer.close_gate()
        for _ in range(MOST_QUEUED):
            peer.submit(NOOP)
        begin = time.perf_counter()
        peer.open_gate()
        peer.wait()
        return MOST_QUEUED / (time.perf_counter() - begin)


def _slurm(place: Path) -> float | None:
    script = place / "job.sh"
    script.write_text("#!/bin/sh\ntrue\n")
    with slurm(place / "slurm", SLOTS) as env:
        if env is None:
            return None
        slurm_calls(env, "scontrol", "update", "PartitionName=main", "State=DOWN")
        for _ in range(SLURM_JOBS):
            sbatch(env, script)
        begin = time.perf_counter()
        slurm_calls(env, "scontrol", "update", "PartitionName=main", "State=UP")
        if not patiently(lambda: not slurm_calls(env, "squeue", "-h"), SLURM_PATIENCE_S):
            return None
        return SLURM_JOBS / (time.perf_counter() - begin)
