"""Which configurations are tried, and who goes on."""

import math
import random
import shlex
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs.scalars import scalar
from leptond.core.training import sweeps
from leptond.core.training.halving import RungSchedule, better, decide_at_rung, rungs_reached
from leptond.core.training.sweeps import Range, parse_space, sample, trial_command, trials

NAMES = st.sampled_from(["lr", "width", "optimizer", "wd"])
VALUES = st.lists(
    st.one_of(st.integers(-9, 9), st.floats(0.1, 0.9), st.text("ab", min_size=1)), min_size=1, max_size=4
)
GRIDS = st.dictionaries(
    NAMES, VALUES.map(lambda found: list({repr(one): one for one in found}.values())), min_size=1
)
LOSSES = st.one_of(st.none(), st.sampled_from([math.nan, math.inf, -math.inf]), st.floats(-10, 10))


# -- configurations ----------------------------------------------------------------------------------------


@given(grid=GRIDS)
def test_a_grid_alone_is_every_combination_once(grid):
    found = trials(grid, {}, count=None, seed=0)
    assert len(found) == math.prod(map(len, grid.values()))
    assert len({repr(one) for one in found}) == len(found)
    assert all(one[name] in grid[name] for one in found for name in grid)


@given(grid=GRIDS, count=st.integers(1, 40), seed=st.integers(0, 99))
def test_so_many_trials_as_were_asked_for_and_the_combinations_in_turn(grid, count, seed):
    found = trials(grid, {"x": Range(kind="uniform", low=0, high=1)}, count=count, seed=seed)
    assert len(found) == count
    assert found == trials(grid, {"x": Range(kind="uniform", low=0, high=1)}, count=count, seed=seed)
    times = [
        sum(all(one[name] == point[name] for name in grid) for one in found)
        for point in trials(grid, {}, count=None, seed=0)
    ]
    assert max(times) - min(times) <= 1


SPACES = st.one_of(
    st.tuples(st.just("log"), st.floats(1e-9, 1e9), st.floats(1e-9, 1e9)),
    st.tuples(st.just("uniform"), st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)),
    st.tuples(st.just("int"), st.integers(-1000, 1000), st.integers(-1000, 1000)),
)


@given(space=SPACES, seed=st.integers(0, 2**53))
def test_what_is_drawn_is_within_its_bounds(space, seed):
    kind, low, high = space[0], *sorted(space[1:])
    value = sample(Range(kind=kind, low=low, high=high), random.Random(seed))
    assert low <= value <= high
    assert isinstance(value, int) == (kind == "int")
    again = scalar(sweeps.argument_text(value))
    assert again == value, "what the command is told is what was drawn"


def test_a_logarithmic_range_is_drawn_by_its_logarithm():
    dice = random.Random(1)
    found = [sample(Range(kind="log", low=1e-6, high=1.0), dice) for _ in range(2000)]
    assert 0.45 < sum(one < 1e-3 for one in found) / len(found) < 0.55


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("log:1e-5..1e-1", Range(kind="log", low=1e-5, high=0.1)),
        ("int:1..8", Range(kind="int", low=1, high=8)),
        ("uniform:-1..0.5", Range(kind="uniform", low=-1, high=0.5)),
        ("adamw,sgd", ["adamw", "sgd"]),
        ("8, 16", [8, 16]),
    ],
)
def test_spaces_are_written_like_this(text, space):
    assert parse_space(text) == space


@pytest.mark.parametrize(
    "text",
    [
        "log:0..1",
        "log:1",
        "int:1..2.5",
        "uniform:2..1",
        "a,,b",
        "",
        "log:a..b",
        "int:1..8x",
        "log:1e-5..1..2",
    ],
)
def test_what_is_no_space_is_refused(text):
    with pytest.raises(ValueError, match=r"\S"):
        parse_space(text)


def test_a_choice_of_a_large_grid_is_quick_and_one_that_is_too_large_refused():
    large = {f"p{n}": list(range(100)) for n in range(3)}
    assert len({repr(one) for one in trials(large, {}, count=20, seed=3)}) == 20
    with pytest.raises(ValueError, match="more than one sweep takes"):
        trials({**large, "q": [1, 2]}, {}, count=20, seed=3)
    with pytest.raises(ValueError, match="more than one sweep takes"):
        trials(large, {}, count=None, seed=3)


def test_a_command_is_told_of_each_parameter_once():
    params = {"lr": 1e-05, "name": "it's", "n": 3}
    assert trial_command(["train.py", "{n}/{other}", "--rate={lr}"], params, shell=False, arguments=True) == [
        "train.py", "3/{other}", "--rate=1e-05", "--name=it's",
    ]  # fmt: skip
    assert trial_command(["train.py"], params, shell=False, arguments=False) == ["train.py"]
    (line,) = trial_command(["train.py --n {n}"], params, shell=True, arguments=True)
    assert shlex.split(line) == ["train.py", "--n", "3", "--lr=1e-05", "--name=it's"]


# -- who goes on -------------------------------------------------------------------------------------------


@given(
    values=st.lists(LOSSES, min_size=1, max_size=30),
    mode=st.sampled_from(["min", "max"]),
    eta=st.integers(2, 5),
)
def test_of_those_that_have_reached_a_rung_the_best_part_goes_on(values, mode, eta):
    for count, mine in enumerate(values, 1):
        so_far = values[:count]
        found = decide_at_rung(mine, so_far, mode=mode, eta=eta)
        assert (found.of, found.keep) == (count, count // eta)
        finite = mine is not None and math.isfinite(mine)
        beaten_by = sum(better(one, mine, mode) for one in so_far)
        assert found.rank == 1 + beaten_by
        if count < eta:
            assert found.go_on, "there is nobody yet to be measured against"
        else:
            assert found.go_on == (finite and beaten_by < count // eta)
    went_on = [decide_at_rung(one, values, mode=mode, eta=eta).go_on for one in values]
    if len(values) >= eta and len({one for one in values if one is not None and math.isfinite(one)}) == len(
        values
    ):
        assert sum(went_on) == len(values) // eta, "of different values just so many are among the best"


@given(values=st.lists(st.floats(-10, 10), min_size=2, max_size=30), eta=st.integers(2, 5))
def test_the_best_of_all_is_never_stopped(values, eta):
    for count, mine in enumerate(values, 1):
        if mine == min(values[:count]):
            assert decide_at_rung(mine, values[:count], mode="min", eta=eta).go_on


@given(
    steps=st.lists(st.integers(1, 5000), min_size=1, max_size=60).map(sorted),
    first=st.integers(1, 50),
    eta=st.integers(2, 4),
    cuts=st.lists(st.integers(0, 60), max_size=5),
)
def test_a_rung_is_reached_once_however_the_reports_come(steps, first, eta, cuts):
    rule, total = RungSchedule(min_step=first, eta=eta), 4000
    shown = [(step, 1.0 / step) for step in steps]
    edges = sorted({0, *[cut for cut in cuts if cut < len(shown)], len(shown)})
    seen: list[int] = []
    for begin, end in pairwise(edges):
        found = rungs_reached({}, shown[begin:end], highest=max(seen, default=0), rule=rule, total=total)
        assert list(found) == sorted(found)
        assert all(rung <= step < total and value == 1.0 / step for rung, (step, value) in found.items())
        seen += found
    assert seen == sorted(set(seen))
    at_once = rungs_reached({}, shown, highest=0, rule=rule, total=total)
    assert list(at_once) == seen, "the same, whatever came together"


def test_what_the_trial_took_note_of_at_its_rungs_counts_more_than_its_reports():
    rule = RungSchedule(min_step=10, eta=2)
    said = {10: (10, 5.0), 20: (20, 4.0), 30: (30, 3.0)}
    assert rungs_reached(said, [(47, 1.0)], highest=10, rule=rule, total=1000) == {20: (20, 4.0)}
