"""Sections of the configuration."""

import msgspec
import pytest

from leptond.base.section import NotNegative, Positive, Section


class Part(Section):
    """A section."""

    wait_s: Positive = 1.0
    keep_s: NotNegative = 0.0


def read(**values):
    return msgspec.convert(values, Part)


def test_what_is_not_said_keeps_its_default():
    assert read(wait_s=2) == Part(wait_s=2.0, keep_s=0.0)


@pytest.mark.parametrize(
    "values", [{"wait_s": 0}, {"wait_s": -1}, {"keep_s": -0.5}, {"wait": 3}, {"keep_s": "1"}]
)
def test_an_unknown_key_or_a_value_out_of_range_is_an_error(values):
    with pytest.raises(msgspec.ValidationError):
        read(**values)


def test_zero_is_not_negative():
    assert read(keep_s=0).keep_s == 0.0
