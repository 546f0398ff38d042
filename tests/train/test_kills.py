"""A slice of `python -m tests.train.kills`: one training of a real daemon, killed in two ways."""

import os
import random
import signal
import time
from functools import partial

import pytest

torch = pytest.importorskip("torch")

from leptond.train.parallel import Plan  # noqa: E402
from tests.train import kills, victim  # noqa: E402
from tests.train.forks import errors, forked  # noqa: E402


def whole() -> kills.Whole:
    """The training in this process, touched by nobody."""
    weights = victim.train(Plan(), None, lambda what: None, steps=kills.STEPS, every=kills.EVERY)
    return kills.Whole(weights=weights, start_s=1.0, run_s=1.5)


def test_a_training_killed_on_the_way_is_the_one_that_nobody_touched(tmp_path):
    found = kills.trial(whole(), 1, "", ("shim", "daemon"), random.Random(3), tmp_path)
    assert found.count == 2
    assert found.notes["classes"] == "infra-node, ok"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("ranks", "plan"), [(1, ""), (2, "dp=2"), (2, "fsdp=2")])
def test_ten_kills_of_every_kind(tmp_path, ranks, plan):
    lines = kills.campaign(10, ranks, plan, 5, tmp_path)
    assert not any(line["failures"] for line in lines), lines


def test_what_is_wrong_is_seen():
    """The judgement itself: a step again that was saved, one left out, and weights that are others."""
    one = whole()
    good = [(1, "start", 0), *((1, "done", n + 1) for n in range(kills.STEPS))]
    assert kills.judge(good, one.weights, one, exact=True)["done again"] == 0
    for bad in (
        [(1, "start", 0), (1, "done", 1), (1, "done", 2), (1, "saved", 2), (2, "start", 1)],
        [(1, "start", 0), (1, "done", 1), (2, "start", 2)],
        [(1, "start", 0), (1, "done", 2)],
    ):
        with pytest.raises(AssertionError, match=r"begins at|after"):
            kills.judge(bad, one.weights, one, exact=True)
    other = {name: weight.clone() for name, weight in one.weights.items()}
    next(iter(other.values())).view(-1)[0] += 1e-7
    with pytest.raises(AssertionError, match="differ"):
        kills.judge(good, other, one, exact=True)
    kills.judge(good, other, one, exact=False)


def leave_alone(pids):
    """Nobody is killed."""


def kill_one(dice, log, attempt, within_s, pids):
    """Kills one of the ranks so long after the first step, at most."""
    # who waits for a rank that never came waits long; a launcher ends it, and there is none here
    kills.until(lambda: (attempt, "start") in {one[:2] for one in kills.noted(log)})
    time.sleep(dice.uniform(0, within_s))  # any moment from there on is right
    os.kill(dice.choice(pids), signal.SIGKILL)


def gang(plan, place, attempt, meanwhile=leave_alone):
    """One attempt of a victim's ranks: exit codes, and whether it came to its end."""

    def work(rank):
        log = (place / "log").open("a", buffering=1) if rank == 0 else None

        def note(what):
            if log is not None:
                log.write(f"{attempt} {what}\n")

        note(f"torn {len(list((place / 'c').glob('.step-*.tmp')))}")
        weights = victim.train(plan, place / "c", note, steps=kills.STEPS, every=kills.EVERY, pause_s=0.005)
        if weights is not None:
            torch.save(weights, place / "result.pt")

    codes, _ = forked(plan.world, work, place, meanwhile)
    return codes, (place / "result.pt").exists()


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("plan", ["fsdp=2", "dp=2"])
@pytest.mark.parametrize("wanted", [2, 50])
def test_ranks_killed_at_random_moments_end_as_if_they_were_not(tmp_path, plan, wanted):
    """Without a launcher, which would end the others: each finds out by itself that one of them is gone."""
    plan, dice = Plan.parse(plan), random.Random(wanted)
    began = time.monotonic()
    assert gang(plan, tmp_path / "whole", 1) == ([0, 0], True), errors(tmp_path / "whole")
    takes_s = time.monotonic() - began
    whole = kills.Whole(weights=torch.load(tmp_path / "whole" / "result.pt"), start_s=0, run_s=takes_s)
    sums: dict[str, float] = {}
    killed = trial = 0
    while killed < wanted:
        trial += 1
        place, attempt = tmp_path / f"t{trial}", 0

        ended = False
        while not ended:
            attempt += 1
            once = partial(kill_one, dice, place / "log", attempt, 0.8 * takes_s)
            if killed >= wanted or attempt > 4:
                once = leave_alone
            codes, ended = gang(plan, place, attempt, once)
            killed += -signal.SIGKILL in codes
            assert ended or codes.count(-signal.SIGKILL) == 1, errors(place)
        found = kills.judge(kills.noted(place / "log"), torch.load(place / "result.pt"), whole, exact=False)
        sums = {name: sums.get(name, 0) + value for name, value in found.items()}
    print(f"{plan}: {killed} kills, {sums}")
