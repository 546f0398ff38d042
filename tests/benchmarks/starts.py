"""Starts of a training, cold and warm, beside the same command by hand: for the parts `warm` and `ranks`.

The script prints a line `first` and the time (milliseconds, Unix) when it is where the figure ends. The warm
process is prepared by jobs like the measured ones, as on a daemon that has run some before.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import COLD, row
from tests.benchmarks.jobs import daemon, p50
from tests.benchmarks.rows import Row
from tests.support.daemon import Daemon

PREPARE_S = 60.0
"""The longest time that a daemon has to get warm. After it the jobs are measured as they start then."""
LEAST_WARM = 4
"""Warm starts before it counts as prepared: what an environment's jobs import may be learned from the first
ones."""
STEADY = 1.25
"""Two starts that differ by no more than this factor are as warm as each other."""
PAUSE_S = 1.0
"""Between two jobs of the preparation, in which the next warm process can be made."""
WARM = "warm"


@dataclass(frozen=True, kw_only=True)
class Training:
    """A script for an interpreter. `before` stands between them on the command line; `lines` is how many
    first lines are waited for."""

    python: str
    script: str
    before: tuple[str, ...] = ()
    lines: int = 1
    gpus: int = 1

    def command(self, place: Path) -> list[str]:
        """Write the script into `place`, and return the command that runs it."""
        place.mkdir(parents=True, exist_ok=True)
        file = place / "train.py"
        file.write_text(self.script)
        return [self.python, *self.before, str(file)]


def cold_and_warm(bench: Bench, key: str, training: Training, jobs: int) -> Row:
    """Return the row `key`: in each run by hand, cold, and `jobs` warm starts, whose p50 counts."""
    place = bench.place / key
    command = training.command(place)
    floor, cold, warm = [], [], []
    starts: Counter[str] = Counter()
    with daemon(place / "daemon", gpus=training.gpus, LEPTOND_ENGINE__WARM="true") as one:
        with bench.load.paused():
            prepare(one, training, command, place)
        for _ in range(bench.runs):
            floor.append(_by_hand(training, command, place))
            cold.append(_submitted(one, training, command, place, cold=True)[0])
            found = [_submitted(one, training, command, place) for _ in range(jobs)]
            starts.update(start for _, start in found)
            warm.append(p50([ms for ms, _ in found]))
    others = {start: count for start, count in starts.items() if start != WARM}
    told = "; ".join(f"{count} of {starts.total()} started {start}" for start, count in others.items())
    return row(key, bench.load, warm, floor=floor, peers={COLD: cold}, note=told)


def prepare(one: Daemon, training: Training, command: list[str], place: Path) -> None:
    """Run jobs of the kind until they start warm and get no quicker, or for PREPARE_S."""
    until = time.monotonic() + PREPARE_S
    took: list[float] = []
    while time.monotonic() < until:
        ms, start = _submitted(one, training, command, place)
        took = [*took, ms] if start == WARM else []
        if len(took) >= LEAST_WARM and max(took[-2:]) <= STEADY * min(took):
            return
        time.sleep(PAUSE_S)


def _submitted(
    one: Daemon, training: Training, command: list[str], place: Path, **more: object
) -> tuple[float, str]:
    """Milliseconds from the submit to the last first line, and how the job started."""
    asked = time.time_ns() / 1e6
    job = one.submit(*command, gpus=training.gpus, cwd=str(place), **more)
    ended = one.finished(job)
    output = one.output(job)
    assert ended["state"] == "succeeded", output
    return _last(output, training) - asked, str(ended["attempts"][-1]["start"])


def _by_hand(training: Training, command: list[str], place: Path) -> float:
    asked = time.time_ns() / 1e6
    # what a job of leptond gets: unbuffered, and one thread a rank as torchrun sets it anyway
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    ended = subprocess.run(
        command, cwd=place, env=env, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    return _last(ended.stdout, training) - asked


def _last(output: str, training: Training) -> float:
    stamps = [float(line.split()[1]) for line in output.splitlines() if line.startswith("first ")]
    assert len(stamps) == training.lines, output
    return max(stamps)
