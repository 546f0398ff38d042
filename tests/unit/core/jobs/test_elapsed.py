"""Elapsed times under a wall clock that is set."""

from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs.elapsed import TOLERATED_S, since

TIMES = st.floats(0, 1e9, allow_nan=False)


@given(at=TIMES, at_boot=TIMES, ran_s=TIMES, jump_s=st.floats(-1e9, 1e9))
def test_what_has_passed_is_what_the_boot_clock_says(at, at_boot, ran_s, jump_s):
    now, boot = at + ran_s + jump_s, at_boot + ran_s
    assert abs(now - since(at, at_boot, now=now, boot=boot) - ran_s) <= TOLERATED_S + 1e-3


@given(at=TIMES, at_boot=TIMES, ran_s=TIMES, slip_s=st.floats(-0.9, 0.9))
def test_small_steps_of_the_wall_clock_change_nothing(at, at_boot, ran_s, slip_s):
    assert since(at, at_boot, now=at + ran_s + slip_s, boot=at_boot + ran_s) == at


def test_a_time_of_an_earlier_boot_is_left_alone():
    assert since(1000.0, 500.0, now=2000.0, boot=3.0) == 1000.0
