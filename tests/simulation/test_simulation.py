"""A slice of the simulation: days of faults, each checked after every commit, and each the same when it is
repeated in another process with another hash seed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.run import Simulation

ROOT = Path(__file__).parents[2]
SLICE = range(4)
DAYS = 0.2


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SLICE[2:])])
def test_a_slice_of_days(seed):
    result = Simulation(seed, DAYS).run()
    assert result.violation is None, f"seed {seed}: {result.violation}\n" + "\n".join(result.tail[-20:])
    assert result.claims > 5
    assert result.checks > 100


@pytest.mark.parametrize("seeds", [range(8), pytest.param(range(8, 17), marks=pytest.mark.slow)], ids=str)
def test_a_slice_of_short_seeds(seeds):
    """With spans of their own, in which more comes together."""
    for seed in seeds:
        result = Simulation(seed).run()
        assert result.violation is None, f"seed {seed}: {result.violation}\n" + "\n".join(result.tail[-20:])


def digests(seeds: range, hash_seed: str) -> list[str]:
    script = (
        "from tests.simulation.run import Simulation\n"
        f"for seed in range({seeds.start}, {seeds.stop}): print(Simulation(seed, {DAYS / 2}).run().digest)"
    )
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_a_seed_is_the_same_in_every_process():
    first, second = digests(range(40, 43), "1"), digests(range(40, 43), "2")
    assert len(set(first)) == 3, "seeds differ"
    assert first == second
