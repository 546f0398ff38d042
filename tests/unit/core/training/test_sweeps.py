"""Sweeps: the configurations that are tried, and the command of each."""

import math
import random
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs.scalars import scalar
from leptond.core.training import sweeps
from leptond.core.training.sweeps import Range, parse_space, sample, trial_command, trials

NAMES = st.sampled_from(["lr", "width", "optimizer", "wd"])
VALUES = st.lists(
    st.one_of(st.integers(-9, 9), st.floats(0.1, 0.9), st.text("ab", min_size=1)), min_size=1, max_size=4
)
GRIDS = st.dictionaries(
    NAMES, VALUES.map(lambda found: list({repr(one): one for one in found}.values())), min_size=1
)


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
