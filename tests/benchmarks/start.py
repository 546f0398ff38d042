"""From a submit to the job's first instruction, on a daemon with nothing else to do."""

from __future__ import annotations

import time
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import SLURM, TSP, row
from tests.benchmarks.jobs import daemon, p50, spawn, stamping, stamps
from tests.benchmarks.peers import RUNS_NO_JOBS, TaskSpooler, patiently, sbatch, slurm
from tests.benchmarks.rows import Row

JOBS = 30
SLURM_JOBS = 5
SLURM_PATIENCE_S = 30.0
PAUSE_S = 0.05
"""Between two submits, so that each finds the daemon at rest."""


def run(bench: Bench) -> list[Row]:
    """The p50, over HTTP on the Unix socket, each submit on a connection of its own."""
    floor, ours, tsp = [], [], []
    for _, here in bench.rounds():
        floor.append(_bare(here / "floor"))
        if not bench.lacks(TSP):
            tsp.append(_tsp(here))
        ours.append(_leptond(here))
    slow = None if bench.lacks(SLURM) else _slurm(bench.place)
    told = bench.lacks(SLURM) or ("" if slow is not None else RUNS_NO_JOBS)
    note = "; ".join(dict.fromkeys(word for word in (bench.lacks(TSP), told) if word))
    peers = {TSP: tsp, SLURM: [slow] if slow is not None else []}
    return [row("start", bench.load, ours, floor=floor, peers=peers, note=note)]


def _bare(file: Path) -> float:
    asked = []
    for _ in range(JOBS):
        asked.append(time.time_ns() / 1e6)
        spawn(stamping(file))
    return _waits(asked, file)


def _leptond(here: Path) -> float:
    file = here / "stamps"
    asked = []
    with daemon(here) as one:
        for _ in range(JOBS):
            time.sleep(PAUSE_S)
            asked.append(time.time_ns() / 1e6)
            job = one.submit(*stamping(file), gpus=1)
            one.finished(job)
    return _waits(asked, file)


def _tsp(here: Path) -> float:
    file = here / "tsp-stamps"
    asked = []
    with TaskSpooler(here / "tsp") as peer:
        for _ in range(JOBS):
            time.sleep(PAUSE_S)
            asked.append(time.time_ns() / 1e6)
            peer.submit(stamping(file))
            peer.wait()
    return _waits(asked, file)


def _slurm(place: Path) -> float | None:
    file = place / "slurm-stamps"
    script = place / "job.sh"
    script.write_text(f"#!/bin/sh\n{stamping(file)[2]}\n")
    asked = []
    with slurm(place / "slurm") as env:
        if env is None:
            return None
        for number in range(SLURM_JOBS):
            asked.append(time.time_ns() / 1e6)
            sbatch(env, script)
            if not patiently(lambda: len(stamps(file)) > number, SLURM_PATIENCE_S):  # noqa: B023
                return None
    return _waits(asked, file)


def _waits(asked: list[float], file: Path) -> float:
    return p50([first - at for at, (first, _) in zip(asked, stamps(file), strict=True)])
