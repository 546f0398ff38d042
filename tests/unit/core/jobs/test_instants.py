"""Instants at the edges of the calendar."""

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs.instants import FIRST_S, LAST_S, clamped, epoch, within


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_every_number_becomes_an_instant_that_can_be_written_with_each_offset(seconds):
    at = clamped(seconds)
    for hours in (-23, 23):
        assert at.astimezone(timezone(timedelta(hours=hours))).isoformat()
    if FIRST_S <= seconds <= LAST_S:
        assert abs(at.timestamp() - seconds) <= 0.001
    assert clamped(at.timestamp()) == at


@pytest.mark.parametrize(
    ("seconds", "near"),
    [(math.nan, FIRST_S), (-math.inf, FIRST_S), (math.inf, LAST_S), (LAST_S + 1, LAST_S), (5.5, 5.5)],
)
def test_the_nearest_instant_is_taken(seconds, near):
    assert within(seconds) == near


@given(st.floats(FIRST_S + 1, LAST_S - 1))
def test_an_instant_comes_back_as_its_seconds(seconds):
    assert epoch(datetime.fromtimestamp(seconds, UTC)) == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize(
    "at",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=23))),
        datetime.min,
        datetime.max,
    ],
)
def test_an_instant_at_the_edge_is_refused(at):
    with pytest.raises(ValueError, match="years 1 to 9999"):
        epoch(at)
