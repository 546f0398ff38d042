"""Webhooks: names, signatures and retries."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs.model import TERMINAL
from leptond.core.webhooks import (
    BASE_S,
    CAP_S,
    MAX_TRIES,
    is_http_hook,
    is_retryable_status,
    name_of,
    retry_delay_s,
    signature,
)


def test_an_end_has_a_name_of_its_own():
    assert {name_of("job.state", {"to": state}) for state in TERMINAL} == {"job.ended"}
    assert name_of("job.state", {"to": "pending"}) == "job.state"
    assert name_of("job.state", {}) == "job.state"
    assert name_of("job.progress", {"to": "failed"}) == "job.progress"


@pytest.mark.parametrize(
    ("url", "http"),
    [("http://x", True), ("https://x/y", True), ("slack://token", False), ("httpx://x", False)],
)
def test_http_addresses_get_json(url, http):
    assert is_http_hook(url) is http


@given(secret=st.text(min_size=1), timestamp=st.integers(0, 2**40).map(str), body=st.binary(max_size=200))
def test_a_signature_is_the_hmac_of_time_and_body(secret, timestamp, body):
    expected = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert signature(secret, timestamp, body) == f"sha256={expected}"
    assert signature(secret, timestamp, body) != signature(secret, timestamp, body + b"x")
    assert signature(secret, timestamp, body) != signature(secret + "x", timestamp, body)


@given(roll=st.floats(0, 1, exclude_max=True))
def test_delays_are_bounded_and_end(roll):
    delays = [retry_delay_s(tries, roll) for tries in range(1, MAX_TRIES + 1)]
    assert delays[-1] is None
    assert all(0 < delay <= CAP_S * 2 for delay in delays[:-1])
    assert delays[0] <= 2 * BASE_S
    assert delays[:-1] == sorted(delays[:-1])


def test_statuses_that_are_worth_another_try():
    again = [status for status in range(200, 600) if is_retryable_status(status)]
    assert again == [408, 425, 429, *range(500, 600)]
