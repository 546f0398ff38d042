"""Promises 19, 20 and 22 by simulation. A trial is a block of seeds, a simulated day each."""

from __future__ import annotations

import random
from pathlib import Path

from tests.faults.campaign import Found, Outcome, campaign, run_trials
from tests.simulation.run import Result, Simulation

BLOCK = 10


def _run(dice: random.Random) -> list[Result]:
    return [Simulation(dice.randrange(2**32)).run() for _ in range(BLOCK)]


def _broken(results: list[Result]) -> str:
    return "\n".join(
        f"seed {one.seed}: {one.violation} (python -m tests.simulation --from {one.seed} --seeds 1)"
        for one in results
        if one.violation is not None
    )


def _a_block(dice: random.Random, place: Path) -> Found:
    results = _run(dice)
    return Found(
        count=BLOCK,
        failures=sum(one.violation is not None for one in results),
        figures={
            "decisions": sum(one.decisions for one in results),
            "starts": sum(one.claims for one in results),
            "jobs": sum(one.jobs for one in results),
            "lives of the daemon": sum(one.lives for one in results),
        },
        why=_broken(results),
    )


@campaign(
    "P19 P20", title="Exclusive GPUs and order in simulated days", short=2, full=50, name="simulated-days"
)
def simulated_days(trials: int, seed: int, workdir: Path) -> Outcome:
    """50 blocks of ten seeds are more than a million decisions."""
    return run_trials(_a_block, trials, seed, workdir)


def _twice(dice: random.Random, place: Path) -> Found:
    seeds = [dice.randrange(2**32) for _ in range(BLOCK)]
    pairs = [(Simulation(seed, 0.5).run(), Simulation(seed, 0.5).run()) for seed in seeds]
    other = [one.seed for one, two in pairs if one.digest != two.digest]
    broken = _broken([one for one, _ in pairs])
    return Found(
        count=BLOCK,
        failures=sum(one.violation is not None or one.digest != two.digest for one, two in pairs),
        why=broken + (f"\nnot the same twice: seeds {other}" if other else ""),
    )


@campaign("P22", title="Seeds that replay bit for bit", short=1, full=100, name="simulation-replays")
def simulation_replays(trials: int, seed: int, workdir: Path) -> Outcome:
    return run_trials(_twice, trials, seed, workdir)
