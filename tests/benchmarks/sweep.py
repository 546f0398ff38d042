"""A sweep of small trainings on four slots: the time from its submit to its last result, beside those who
would be used for it. The trainings, and the drivers of the peers, are in `trials/`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import BEST, RAY, SLOTS, SLURM, SUBMITIT, TRIALS, TSP, XARGS, row
from tests.benchmarks.jobs import daemon
from tests.benchmarks.peers import RUNS_NO_JOBS, TaskSpooler, slurm
from tests.benchmarks.rows import Row
from tests.benchmarks.starts import Training, prepare
from tests.support.daemon import Daemon

HERE = Path(__file__).with_name("trials")
STEPS = {"short": 170, "second": 1700}
"""Steps of a trial: a tenth of a second, and a second, on a core of about 2024."""
RATES = (0.0001, 0.0003, 0.001, 0.002, 0.003, 0.01, 0.03, 0.1)
WIDTHS = (16, 24, 32, 40, 48, 56, 64, 72)
IMPORTING = (XARGS, TSP, SUBMITIT, SLURM)
"""Peers that start an interpreter for each trial, which imports torch."""
FRESH = "leptond on its first day"
"""leptond without a warm process: the daemon has never run such a job."""
PATIENCE_S = 1800.0
POLL_S = 0.02


class NoJobs(Exception):
    """A peer is installed and runs nothing here."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep: every combination of the values, by a script that takes ``--steps --results --lr --width``."""

    place: Path
    steps: int
    rates: Sequence[float] = RATES
    widths: Sequence[int] = WIDTHS
    script: Path = HERE / "trial.py"
    slots: int = SLOTS

    def lines(self) -> list[str]:
        """Return the options of each trial."""
        return [f"--lr={lr} --width={width}" for lr in self.rates for width in self.widths]

    def command(self) -> list[str]:
        """Return the command of a trial, without its own options."""
        fixed = ["--steps", str(self.steps), "--results", str(self.results)]
        return [sys.executable, str(self.script), *fixed]

    @property
    def results(self) -> Path:
        """The directory of the results."""
        return self.place / "results"

    def last(self, alive: Callable[[], object]) -> float:
        """Return the time of the last result, in seconds, when all are there. `alive` raises when nothing
        more can come."""
        deadline = time.monotonic() + PATIENCE_S
        wanted = len(self.lines())
        while (
            len(found := [file for file in self.results.iterdir() if not file.name.endswith(".part")])
            < wanted
        ):
            alive()
            assert time.monotonic() < deadline, f"{len(found)} of {wanted} results in {PATIENCE_S:.0f} s"
            time.sleep(POLL_S)
        return max(int(file.read_text().split()[0]) for file in found) / 1e9

    def _found(self) -> list[Path]:
        return [file for file in self.results.iterdir() if not file.name.endswith(".part")]


def run(bench: Bench) -> list[Row]:
    """Trainings of a second. In the first run all peers are measured; after that, of those that import torch
    for each trial, only the one that was the quickest."""
    return rows_of(bench, "second", STEPS["second"])


def rows_of(
    bench: Bench,
    key: str,
    steps: int,
    *,
    warm: Callable[..., contextlib.AbstractContextManager[Daemon]] | None = None,
    fresh: Callable[[Path], contextlib.AbstractContextManager[Daemon]] | None = None,
) -> list[Row]:
    """Return the rows of the sweep `key`, against the best peer that imports and against Ray Tune. `warm` and
    `fresh` make the daemons."""
    if find_spec("torch") is None:
        note = "torch is not installed"
        return [row(f"sweep_{key}{end}", bench.load, (), note=note) for end in ("", "_ray")]
    warm, fresh = warm or _warm_daemon, fresh or _daemon
    ours: list[float] = []
    floor: list[float] = []
    best: list[float] = []
    peers: dict[str, list[float]] = {}
    lacking = {peer: bench.lacks(peer) for peer in (*IMPORTING, RAY)}
    importing = [peer for peer in IMPORTING if not lacking[peer]]
    for number, here in bench.rounds(key):

        def sweep(name: str) -> Sweep:
            one = Sweep(place=here / name.replace(" ", "-"), steps=steps)  # noqa: B023
            one.results.mkdir(parents=True)
            return one

        floor.append(by_driver(sweep("floor"), "by_fork.py"))
        with warm(bench, here, steps) as one:
            ours.append(by_leptond(sweep("leptond"), one))
        if number == 0:
            with fresh(here / "fresh") as one:
                peers[FRESH] = [by_leptond(sweep(FRESH), one)]
        if not lacking[RAY]:
            assert bench.ray is not None
            peers.setdefault(RAY, []).append(
                by_driver(sweep(RAY), "by_ray.py", str(bench.ray / "bin" / "python"))
            )
        found = {}
        for peer in importing:
            try:
                found[peer] = PEERS[peer](sweep(peer))
            except NoJobs as error:
                lacking[peer] = str(error)
        for peer, seconds in found.items():
            peers.setdefault(peer, []).append(seconds)
        if found:
            importing = [min(found, key=lambda peer: found[peer])]
            best.append(min(found.values()))
    note = "; ".join(dict.fromkeys(why for peer, why in lacking.items() if why and peer != RAY))
    peers[BEST] = best
    return [
        row(f"sweep_{key}", bench.load, ours, floor=floor, peers=peers, note=note),
        row(
            f"sweep_{key}_ray",
            bench.load,
            ours,
            floor=floor,
            peers={RAY: peers.get(RAY, [])},
            note=lacking[RAY],
        ),
    ]


@contextlib.contextmanager
def _warm_daemon(bench: Bench, here: Path, steps: int) -> Iterator[Daemon]:
    """A daemon that has run some trials."""
    place = here / "before"
    results = place / "results"
    results.mkdir(parents=True)
    script = f'import sys, time\nsys.path.insert(0, "{HERE}")\nimport trial\n' + (
        f'trial.run({steps}, "{results}", 0.1, 8)\nprint("first", time.time_ns() / 1e6, flush=True)\n'
    )
    training = Training(python=sys.executable, script=script)
    with _daemon(here) as one:
        with bench.load.paused():
            prepare(one, training, training.command(place), place)
        yield one


@contextlib.contextmanager
def _daemon(here: Path) -> Iterator[Daemon]:
    with daemon(here / "daemon", gpus=SLOTS, LEPTOND_ENGINE__WARM="true") as one:
        yield one


def by_leptond(sweep: Sweep, one: Daemon) -> float:
    """`leptonctl sweep`, as people type it."""
    grid = [f"lr={','.join(map(str, sweep.rates))}", f"width={','.join(map(str, sweep.widths))}"]
    options = [word for values in grid for word in ("--grid", values)]
    program = [sys.executable, "-m", "leptond.cli", "sweep", "--gpus", "1", "--no-halving", *options]
    env = {**os.environ, "LEPTOND_HOST": f"unix://{one.socket}"}
    begin = time.time()
    subprocess.run([*program, "--", *sweep.command()], env=env, check=True, capture_output=True)

    def alive() -> None:
        counts = one.get("/v1/status").json["counts"]
        failed = {
            state: counts[state] for state in ("failed", "lost", "timed_out", "cancelled") if counts[state]
        }
        assert not failed, failed

    return sweep.last(alive) - begin


def by_xargs(sweep: Sweep) -> float:
    """A loop of the shell's."""
    command = ["xargs", "-P", str(sweep.slots), "-L", "1", *sweep.command()]
    begin = time.time()
    subprocess.run(command, input="\n".join(sweep.lines()) + "\n", text=True, check=True)
    return sweep.last(_nothing_more) - begin


def by_tsp(sweep: Sweep) -> float:
    """task-spooler with as many slots."""
    with TaskSpooler(sweep.place / "tsp", sweep.slots) as peer:
        begin = time.time()
        for line in sweep.lines():
            peer.submit([*sweep.command(), *line.split()])
        peer.wait()
        return sweep.last(_nothing_more) - begin


def by_slurm(sweep: Sweep) -> float:
    """An array, submitted by one sbatch. Raises NoJobs."""
    (sweep.place / "lines").write_text("\n".join(sweep.lines()) + "\n")
    script = sweep.place / "job.sh"
    line = f"$(sed -n \"$((SLURM_ARRAY_TASK_ID + 1))p\" '{sweep.place / 'lines'}')"
    script.write_text(f"#!/bin/sh\nexec {' '.join(sweep.command())} {line}\n")
    with slurm(sweep.place / "slurm", sweep.slots) as env:
        if env is None:
            raise NoJobs(RUNS_NO_JOBS)
        begin = time.time()
        array = ["sbatch", "-o", "/dev/null", f"--array=0-{len(sweep.lines()) - 1}", str(script)]
        subprocess.run(array, env=env, check=True, stdout=subprocess.DEVNULL, timeout=60)
        return sweep.last(lambda: None) - begin


def by_driver(sweep: Sweep, driver: str, python: str = sys.executable) -> float:
    """A driver of `trials/`, which says when it began."""
    command = [python, str(HERE / driver), str(sweep.slots), str(sweep.steps), str(sweep.results)]
    ended = subprocess.run(
        command,
        input="\n".join(sweep.lines()) + "\n",
        text=True,
        capture_output=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert ended.returncode == 0, f"{driver}: {ended.stderr[-2000:]}"
    begins = [int(line) for line in ended.stdout.splitlines() if line.isdecimal()]
    return sweep.last(_nothing_more) - begins[0] / 1e9


def _nothing_more() -> None:
    raise AssertionError("a peer has ended without all results")


PEERS: dict[str, Callable[[Sweep], float]] = {
    XARGS: by_xargs,
    TSP: by_tsp,
    SUBMITIT: lambda sweep: by_driver(sweep, "by_submitit.py"),
    SLURM: by_slurm,
}
assert len(RATES) * len(WIDTHS) == TRIALS
