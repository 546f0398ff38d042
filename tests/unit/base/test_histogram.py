"""Histograms of durations, as Prometheus reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.base.histogram import FAST_S, DurationHistogram


@given(st.lists(st.floats(0, 20), max_size=50))
def test_each_bucket_counts_what_took_no_longer(durations):
    one = DurationHistogram(FAST_S)
    for seconds in durations:
        one.observe(seconds)
    *limited, last = one.buckets()
    assert [float(limit) for limit, _ in limited] == list(FAST_S)
    for limit, count in limited:
        assert count == sum(seconds <= float(limit) for seconds in durations)
    assert last == ("+Inf", len(durations))
    assert one.total_s == pytest.approx(sum(durations))
