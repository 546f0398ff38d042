"""The hand-over gap: from the last instruction of a job to the first of the next on the same slot."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import GAP_JOBS, SLURM, TSP, row
from tests.benchmarks.jobs import (
    daemon,
    ended,
    gaps,
    p50,
    spawn,
    stamp_program,
    stamping,
    stamps,
    submit_many,
)
from tests.benchmarks.peers import RUNS_NO_JOBS, TaskSpooler, patiently, sbatch, slurm
from tests.benchmarks.rows import Row

SLURM_JOBS = 6
SLURM_PATIENCE_S = 90.0


def run(bench: Bench) -> list[Row]:
    """The gap against a bare spawn loop, against task-spooler, and against Slurm (measured once: it takes a
    second a job)."""
    floor, ours, tsp, least = [], [], [], []
    program = stamp_program(bench.place)
    for _, here in bench.rounds():
        floor.append(_bare(here / "floor"))
        if not bench.lacks(TSP):
            tsp.append(_tsp(here))
        ours.append(_leptond(here))
        if program:
            least.append(_stamp_only(here / "stamp", program))
    peers = {TSP: tsp}
    told = [bench.lacks(TSP)]
    if bench.lacks(SLURM):
        told.append(bench.lacks(SLURM))
    elif (slow := _slurm(bench.place)) is not None:
        peers[SLURM] = [slow]
    else:
        told.append(RUNS_NO_JOBS)
    note = "; ".join(dict.fromkeys(word for word in told if word))
    common = {"floor": floor, "peers": peers}
    return [
        row("gap", bench.load, ours, note=note, **common),
        row("gap_tsp", bench.load, ours, note=bench.lacks(TSP), **common),
        row(
            "gap_stamp",
            bench.load,
            [ours for _, ours in least],
            floor=[bare for bare, _ in least],
            note="" if program else "there is no C compiler",
        ),
    ]


def _bare(file: Path, argv: list[str] | None = None) -> float:
    for _ in range(GAP_JOBS):
        spawn(argv or stamping(file))
    return p50(gaps(file))


def _stamp_only(here: Path, program: str) -> tuple[float, float]:
    """Floor and leptond with a program that does nothing else, so that nothing hides the gap."""
    here.mkdir()
    floor = _bare(here / "floor", [program, str(here / "floor")])
    return floor, _leptond(here, [program, str(here / "leptond")])


def _leptond(here: Path, argv: list[str] | None = None) -> float:
    file = here / "leptond"
    with daemon(here) as one:
        ids = submit_many(one, [{"argv": argv or stamping(file), "gpus": 1}] * GAP_JOBS)
        ended(one, ids[-1])
    return p50(_whole(file, GAP_JOBS))


def _tsp(here: Path) -> float:
    file = here / "tsp-stamps"
    with TaskSpooler(here / "tsp") as peer:
        peer.close_gate()
        for _ in range(GAP_JOBS):
            peer.submit(stamping(file))
        peer.open_gate()
        peer.wait()
    return p50(_whole(file, GAP_JOBS))


def _slurm(place: Path) -> float | None:
    file = place / "slurm-stamps"
    script = place / "job.sh"
    script.write_text(f"#!/bin/sh\n{stamping(file)[2]}\n")
    with slurm(place / "slurm") as env:
        if env is None:
            return None
        for _ in range(SLURM_JOBS):
            sbatch(env, script)
        if not patiently(lambda: len(stamps(file)) == SLURM_JOBS, SLURM_PATIENCE_S):
            return None
    return p50(gaps(file))


def _whole(file: Path, jobs: int) -> list[float]:
    assert len(stamps(file)) == jobs, f"{len(stamps(file))} of {jobs} jobs have left their stamps"
    return gaps(file)
