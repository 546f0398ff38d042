"""A slice of `python -m tests.train.kills`: one training of a real daemon, killed in two ways."""

import random

import pytest

pytest.importorskip("torch")

from leptond.train.parallel import Plan
from tests.train import kills, victim


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
