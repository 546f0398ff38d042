"""Every figure of the benchmarks: its name, its unit, what it is held against, and its bars. All bars are
here.

Bars hold for a quiet machine; `busy_bar` and `busy_stretch` for one whose cores are all busy. A figure
without them is shown and not judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tests.benchmarks.load import Load
from tests.benchmarks.rows import FLOOR, Row

TSP, SLURM, SUBMITIT, XARGS, RAY = "task-spooler", "Slurm", "submitit", "xargs -P", "Ray Tune"
ALL_PEERS = frozenset({TSP, SLURM, SUBMITIT, XARGS, RAY})
COLD = "cold"
"""The same job of leptond without a warm process."""
BEST = "best that imports per trial"
"""The quickest, in each run, of the peers that start an interpreter for each trial."""

GAP_JOBS = 100
DRAIN_JOBS, SLOTS = 1000, 4
CLIENTS, BATCH, ARRAY = 16, 1000, 100_000
PENDING, PURGED = 1_000_000, 2_000
HISTORY, QUEUED, ADOPTED = 100_000, 10_000, 8
TRIALS = 64
REPORTING = 8
RESTING = 4
ROUND, ROUNDS = 250, 3


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure. `against`: what the bars are about, as in :class:`Row`; with `times_sooner` the ratio is the
    other's time over leptond's."""

    name: str
    unit: str
    against: str = ""
    times_sooner: bool = False
    better: Literal["lower", "higher"] = "lower"
    bar: float | None = None
    stretch: float | None = None
    busy_bar: float | None = None
    busy_stretch: float | None = None


def _deep(what: str) -> dict[str, Figure]:
    return {
        f"{what}, {kind}": Figure(
            name=f"{what}, {PENDING:,} {kind} pending / empty queue",
            unit="ms",
            against=FLOOR,
            bar=1.5,
            stretch=1.1,
        )
        for kind in DEEP_KINDS
    }


DEEP_KINDS = ("jobs", "members of arrays")
DEEP_GAP = "hand-over gap, p50"
DEEP_START = "submit to first instruction, p50"
DEEP_STATUS = "leptonctl status, whole command, p50"

FIGURES: dict[str, Figure] = {
    # -- from one job to the next
    "gap": Figure(
        name=f"hand-over gap, {GAP_JOBS} jobs on one slot, p50 / floor",
        unit="ms",
        against=FLOOR,
        bar=1.6,
        stretch=1.2,
    ),
    "gap_tsp": Figure(
        name="hand-over gap against task-spooler",
        unit="ms",
        against=TSP,
        bar=1.0,
        stretch=0.8,
        busy_bar=1.2,
        busy_stretch=1.0,
    ),
    "gap_stamp": Figure(name="hand-over gap of a program that only stamps the clock", unit="ms"),
    "drain": Figure(
        name=f"drain of {DRAIN_JOBS:,} no-op jobs, {SLOTS} slots", unit="jobs/s", better="higher", bar=200.0
    ),
    "drain_tsp": Figure(
        name="drain against task-spooler", unit="jobs/s", against=TSP, better="higher", bar=0.5, stretch=1.0
    ),
    "start": Figure(
        name="submit to first instruction, idle daemon, p50, against task-spooler",
        unit="ms",
        against=TSP,
        bar=2.0,
        stretch=1.2,
    ),
    # -- to the first step of a training
    "import": Figure(
        name="submit to first line after import torch, cold / warm",
        unit="ms",
        against=COLD,
        times_sooner=True,
        better="higher",
        bar=50.0,
        stretch=100.0,
    ),
    "import_packages": Figure(
        name="the same where people's packages are installed, cold / warm",
        unit="ms",
        against=COLD,
        times_sooner=True,
        better="higher",
        bar=50.0,
        stretch=100.0,
    ),
    "step": Figure(
        name="submit to first optimizer step, plain torch, cold / warm",
        unit="ms",
        against=COLD,
        times_sooner=True,
        better="higher",
        bar=25.0,
        stretch=60.0,
    ),
    "step_hf": Figure(
        name="submit to first optimizer step, Hugging Face Trainer, cold / warm",
        unit="ms",
        against=COLD,
        times_sooner=True,
        better="higher",
        bar=8.0,
        stretch=20.0,
    ),
    "ranks": Figure(
        name="submit to first line of both ranks under torchrun, cold / warm",
        unit="ms",
        against=COLD,
        times_sooner=True,
        better="higher",
        bar=10.0,
        stretch=30.0,
    ),
    "shim": Figure(name="a shim to READY, / a bare spawn", unit="ms", against=FLOOR),
    # -- a sweep, from its submit to its last result
    **{
        f"sweep_{key}{suffix}": Figure(
            name=f"sweep of {TRIALS} trainings of {work}, {SLOTS} slots, {words}",
            unit="s",
            against=against,
            times_sooner=True,
            better="higher",
            bar=bar,
            stretch=stretch,
        )
        for key, work in (("short", "0.1 s"), ("second", "1 s"))
        for suffix, against, words, bar, stretch in (
            ("", BEST, "best peer that imports per trial / leptond", 12.0, 25.0),
            ("_ray", RAY, "Ray Tune with reused workers / leptond", 1.0, 1.5),
        )
    },
    # -- submits
    "submits": Figure(
        name=f"durable submits, {CLIENTS} clients one by one / bare SQLite",
        unit="jobs/s",
        against=FLOOR,
        better="higher",
        bar=0.6,
        stretch=0.8,
    ),
    "batches": Figure(
        name=f"durable submits, {CLIENTS} clients in batches of {BATCH:,} / bare SQLite",
        unit="jobs/s",
        against=FLOOR,
        better="higher",
        bar=0.3,
        stretch=0.5,
    ),
    "array": Figure(name=f"an array of {ARRAY:,} submitted, durable", unit="ms", bar=200.0, stretch=20.0),
    # -- recovery
    "answered": Figure(
        name=f"recovery, first answer ({HISTORY:,} in history, {QUEUED:,} queued, {ADOPTED} running)",
        unit="s",
        bar=2.0,
        stretch=0.5,
    ),
    "adopted": Figure(name="recovery, all adopted", unit="s", bar=3.0, stretch=1.0),
    # -- the command line
    "status": Figure(
        name="leptonctl status, whole command / bare interpreter",
        unit="ms",
        against=FLOOR,
        bar=3.5,
        stretch=2.5,
    ),
    "submit": Figure(name="leptonctl submit, whole command / bare interpreter", unit="ms", against=FLOOR),
    "queue": Figure(name="leptonctl queue, whole command / bare interpreter", unit="ms", against=FLOOR),
    # -- a deep queue
    **_deep(DEEP_GAP),
    **_deep(DEEP_START),
    **_deep(DEEP_STATUS),
    **{
        f"memory, {kind}": Figure(
            name=f"daemon memory above idle, {PENDING:,} {kind} pending", unit="MB", bar=200.0, stretch=60.0
        )
        for kind in DEEP_KINDS
    },
    "purge": Figure(name=f"longest of the submits while {2 * PURGED:,} jobs are forgotten", unit="ms"),
    # -- the cost of being there
    "cpu": Figure(
        name=f"CPU of daemon and shims, {REPORTING} jobs that train and report once a second",
        unit="% of a core",
        bar=1.0,
        stretch=0.3,
    ),
    "memory_shims": Figure(name=f"memory of {REPORTING} shims together, proportional", unit="MB"),
    "memory_all": Figure(name=f"memory of daemon, helpers and {REPORTING} shims, proportional", unit="MB"),
    "memory_warm": Figure(name="memory of the warm process that they came from, proportional", unit="MB"),
    "memory": Figure(name="daemon memory, idle", unit="MB", bar=80.0, stretch=45.0),
    "memory_helpers": Figure(name="memory of its helper processes, idle", unit="MB"),
    "wakes": Figure(name=f"wake-ups of the daemon, {RESTING} jobs running", unit="1/s", bar=2.0),
    "wakes_shim": Figure(name="wake-ups of a shim", unit="1/s"),
    "growth": Figure(
        name=f"daemon memory after {ROUND * (ROUNDS + 1):,} jobs above that after {ROUND:,}", unit="MB"
    ),
}


def row(key: str, load: Load, leptond: Any, **values: Any) -> Row:
    """Return the row of a figure, with the bars of its load. `values` are further fields of :class:`Row`;
    sequences become tuples, and peers without values are left out."""
    figure, busy = FIGURES[key], load.name == "busy"
    peers = {name: tuple(found) for name, found in values.pop("peers", {}).items() if len(found)}
    return Row(
        figure=figure.name,
        load=load.name,
        unit=figure.unit,
        leptond=tuple(leptond),
        floor=tuple(values.pop("floor", ())),
        peers=peers,
        against=figure.against,
        times_sooner=figure.times_sooner,
        better=figure.better,
        bar=figure.busy_bar if busy else figure.bar,
        stretch=figure.busy_stretch if busy else figure.stretch,
        **values,
    )
