"""Successive halving: trials at their rungs."""

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.training.halving import (
    RungSchedule,
    better,
    decide_at_rung,
    explain_stop,
    first_rung,
    rungs_reached,
    spared_ms,
)

LOSSES = st.one_of(st.none(), st.sampled_from([math.nan, math.inf, -math.inf]), st.floats(-10, 10))


@given(total=st.integers(1, 10**9), eta=st.integers(2, 10))
def test_the_first_rung_leaves_three_below_the_end(total, eta):
    first = first_rung(total, eta)
    assert 1 <= first <= total
    if total >= eta**3:
        assert len(RungSchedule(min_step=first, eta=eta).rungs(total, total)) >= 3


@given(first=st.integers(1, 50), eta=st.integers(2, 5), step=st.integers(0, 10**6))
def test_rungs_are_powers_of_eta_and_none_is_at_the_end(first, eta, step):
    found = RungSchedule(min_step=first, eta=eta).rungs(step, total=None)
    assert found == [first * eta**n for n in range(len(found))]
    assert first * eta ** len(found) > step
    assert all(rung < step for rung in RungSchedule(min_step=first, eta=eta).rungs(step, total=step))


@pytest.mark.parametrize(
    ("step", "first_step", "total", "took_s", "expected"),
    [
        (50, 0, 100, 10.0, 10_000),
        (50, 40, 100, 1.0, 5_000),
        (100, 0, 100, 10.0, 0),
        (120, 0, 100, 10.0, 0),
        (50, 50, 100, 10.0, 0),
        (50, 0, 100, 0.0, 0),
        (50, 0, None, 10.0, 0),
        (None, None, 100, 10.0, 0),
    ],
)
def test_the_steps_that_are_spared_take_as_long_as_those_before(step, first_step, total, took_s, expected):
    attempt = SimpleNamespace(
        step=step,
        first_step=first_step,
        total_steps=total,
        first_progress_at=1000.0,
        progress_at=1000.0 + took_s,
    )
    assert spared_ms(attempt) == expected


def test_a_stop_is_explained_with_its_rank():
    stopped = decide_at_rung(None, [1.0, 2.0, None], mode="min", eta=3)
    assert explain_stop(100, None, stopped) == (
        "stopped early: rung 100, value not finite, 3rd of 3; the best goes on"
    )


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
        assert found.place == 1 + beaten_by
        if count < eta:
            assert found.go_on, "too few to be compared with"
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
