"""Promises 19, 20 and 22 by simulation. A trial is a block of seeds, each with a span of its own (see
tests/simulation/run.py)."""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.faults.campaign import Found, Outcome, campaign, run_trials
from tests.simulation.__main__ import one
from tests.simulation.run import Result

BLOCK = 50
PARALLEL = 2


def _block(seeds: list[int]) -> tuple[list[Result], float]:
    """Results, and the seconds of one core that they took."""
    begin = time.process_time()
    return [one(seed, None) for seed in seeds], time.process_time() - begin


def _seeds(dice: random.Random) -> list[int]:
    return [dice.randrange(2**32) for _ in range(BLOCK)]


def _broken(results: list[Result]) -> str:
    return "\n".join(
        f"seed {one.seed}: {one.violation} (python -m tests.simulation --from {one.seed} --seeds 1)"
        for one in results
        if one.violation is not None
    )


def _figures(results: list[Result], cpu_s: float) -> dict[str, float]:
    return {
        "days": sum(one.days for one in results),
        "days until rest": sum(one.simulated_s for one in results) / 86400,
        "CPU seconds": cpu_s,
        "decisions": sum(one.decisions for one in results),
        "starts": sum(one.claims for one in results),
        "jobs": sum(one.jobs for one in results),
        "lives of the daemon": sum(one.lives for one in results),
    }


@campaign(
    "P19 P20", title="Exclusive GPUs and order in simulated days", short=1, full=200, name="simulated-days"
)
def simulated_days(trials: int, seed: int, workdir: Path) -> Outcome:
    """200 blocks of fifty seeds are ten thousand."""
    with ProcessPoolExecutor(PARALLEL) as pool:

        def a_block(dice: random.Random, place: Path) -> Found:
            results, cpu_s = pool.submit(_block, _seeds(dice)).result()
            return Found(
                count=BLOCK,
                failures=sum(one.violation is not None for one in results),
                figures=_figures(results, cpu_s),
                why=_broken(results),
            )

        return run_trials(a_block, trials, seed, workdir, parallel=PARALLEL)


@campaign("P22", title="Seeds that replay bit for bit", short=1, full=20, name="simulation-replays")
def simulation_replays(trials: int, seed: int, workdir: Path) -> Outcome:
    """The same seeds in two processes that hash strings differently."""
    with _hashing("1") as first, _hashing("2") as second:

        def twice(dice: random.Random, place: Path) -> Found:
            seeds = _seeds(dice)
            runs = [pool.submit(_block, seeds) for pool in (first, second)]
            (ones, cpu_s), (twos, more_s) = (run.result() for run in runs)
            other = [one.seed for one, two in zip(ones, twos, strict=True) if one.digest != two.digest]
            bad = {one.seed for one in ones if one.violation is not None} | set(other)
            return Found(
                count=BLOCK,
                failures=len(bad),
                figures=_figures(ones, cpu_s + more_s),
                why=_broken(ones) + (f"\nnot the same twice: seeds {other}" if other else ""),
            )

        return run_trials(twice, trials, seed, workdir)


def _hashing(seed: str) -> ProcessPoolExecutor:
    """A process whose strings hash by `seed`."""
    import multiprocessing

    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = seed
    try:
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        pool.submit(os.getpid).result()
        return pool
    finally:
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before
