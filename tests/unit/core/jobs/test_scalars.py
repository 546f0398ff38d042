"""Values of parameters as people write them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs.scalars import choices, scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-07", -7),
        ("+2", 2),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("1.", 1.0),
        ("1e999", "1e999"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("9" * 16, float("9" * 16)),
        ("adamw", "adamw"),
        ("", ""),
        ("3\n", "3\n"),
    ],
)
def test_numbers_are_numbers_and_the_rest_is_text(text, value):
    found = scalar(text)
    assert found == value
    assert type(found) is type(value)


@given(st.integers(-(10**15) + 1, 10**15 - 1))
def test_whole_numbers_survive(number):
    assert scalar(str(number)) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive(number):
    assert scalar(repr(number)) == number


@given(st.text())
def test_what_comes_back_is_finite_or_the_text_itself(text):
    found = scalar(text)
    assert found is text or math.isfinite(found)


def test_a_list_has_commas_and_no_gaps():
    assert choices("8, 16,adamw") == [8, 16, "adamw"]
    assert choices("x") == ["x"]
    for text in ("", "a,,b", "a, ", ","):
        with pytest.raises(ValueError, match="empty value"):
            choices(text)
