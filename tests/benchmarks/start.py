"""From a submit to the job's first instruction, on a daemon with nothing else to do."""

from __future__ import annotations

import time
from pathlib import Path

from tests.benchmarks.jobs import daemon, p50, spawn, stamping, stamps
from tests.benchmarks.peers import TSP, TaskSpooler, missing
from tests.benchmarks.rows import Row

JOBS = 30
PAUSE_S = 0.05
"""Between two submits, so that each finds the daemon at rest."""


def run(place: Path, runs: int) -> list[Row]:
    """The p50, over HTTP on the Unix socket, each submit on a connection of its own."""
    floor, ours, tsp = [], [], []
    for number in range(runs):
        here = place / str(number)
        here.mkdir(parents=True)
        floor.append(_bare(here / "floor"))
        if not missing(TSP):
            tsp.append(_tsp(here))
        ours.append(_leptond(here))
    return [
        Row(
            figure="submit to first instruction, idle daemon, p50",
            unit="ms",
            leptond=tuple(ours),
            floor=tuple(floor),
            peers={TSP: tuple(tsp)} if tsp else {},
            bar=12.0,
            stretch=6.0,
            note=missing(TSP),
        )
    ]


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


def _waits(asked: list[float], file: Path) -> float:
    return p50([first - at for at, (first, _) in zip(asked, stamps(file), strict=True)])
