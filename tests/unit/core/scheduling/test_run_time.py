"""Predicted and remaining run times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.scheduling.run_time import (
    command_kind,
    predicted_run_s,
    remaining_run_s,
    smoothed_cost_s,
)

SECONDS = st.floats(0.0, 1e7)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (["a.py", "--seed=1"], ["a.py", "--seed=42"], True),
        (["a.py", "--lr", "1e-3"], ["a.py", "--lr", ".5"], True),
        (["a.py", "-3"], ["a.py", "3"], True),
        (["a.py", "x"], ["a.py", "y"], False),
        (["a.py", "1", "2"], ["a.py", "12"], False),
        (["a b"], ["a", "b"], False),
    ],
)
def test_commands_that_differ_in_numbers_are_of_one_kind(one, other, alike):
    assert (command_kind(one, shell=False) == command_kind(other, shell=False)) is alike


def test_a_shell_command_is_of_another_kind():
    assert command_kind(["a"], shell=True) != command_kind(["a"], shell=False)
    assert len(command_kind(["a"], shell=True)) == 16


@given(argv=st.lists(st.text(alphabet="ab=", max_size=4), max_size=4), seed=st.integers(0, 10**6))
def test_a_number_added_to_a_word_is_any_number(argv, seed):
    assert command_kind([*argv, f"n={seed}"], shell=False) == command_kind([*argv, "n=7"], shell=False)


@pytest.mark.parametrize(
    ("last", "before", "predicted"),
    [(None, None, None), (10.0, None, 10.0), (10.0, 20.0, 15.0), (0.0, 0.0, 0.001)],
)
def test_the_mean_of_the_last_two_runs(last, before, predicted):
    assert predicted_run_s(last, before) == predicted


@given(expected=SECONDS, ran=SECONDS, limit=st.none() | SECONDS)
def test_a_run_is_never_expected_beyond_its_limit_nor_over_already(expected, ran, limit):
    left = remaining_run_s(expected, ran, limit)
    assert left >= 0.0
    if limit is None:
        assert left > 0.0
        assert ran + left <= max(expected, 0.001, 2 * ran) + 1e-6
    else:
        assert ran + left <= max(limit, ran) + 1e-6
    if ran < expected and (limit is None or expected <= limit):
        assert left == pytest.approx(expected - ran)


@given(old=SECONDS, new=SECONDS)
def test_the_newest_cost_counts_half(old, new):
    assert smoothed_cost_s(None, new) == new
    assert smoothed_cost_s(old, new) == pytest.approx((old + new) / 2)
