"""Array specifications."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs.arrays import Indices, parse_array

RANGES = st.builds(
    lambda start, length, step: range(start, start + length * step, step),
    st.integers(0, 60),
    st.integers(0, 12),
    st.integers(1, 7),
)


@given(ranges=st.lists(RANGES, max_size=6))
def test_indices_are_the_sorted_union_of_the_ranges(ranges):
    expected = sorted(set().union(*ranges))
    found = Indices(ranges)
    assert list(found) == expected
    assert len(found) == len(expected)
    assert [found[at] for at in range(len(found))] == expected
    assert found[1:-1] == expected[1:-1]
    assert found[::-2] == expected[::-2]


@given(ranges=st.lists(RANGES, max_size=6), index=st.integers(-2, 150))
def test_a_position_is_where_the_index_is(ranges, index):
    found = Indices(ranges)
    position = found.position(index)
    assert (index in found) == (position is not None)
    if position is not None:
        assert found[position] == index
    assert "1" not in found


def test_an_index_beyond_the_end_is_an_error():
    found = Indices([range(3, 6)])
    assert (found[-1], found[-3]) == (5, 3)
    for at in (3, -4):
        with pytest.raises(IndexError):
            found[at]


def test_a_million_members_stay_a_range():
    found, limit = parse_array("0-999999%8", max_members=1_000_000)
    assert (len(found), found[-1], found.position(500_000), limit) == (1_000_000, 999_999, 500_000, 8)


@pytest.mark.parametrize(
    ("text", "indices", "limit"),
    [
        ("5", [5], None),
        ("0-3", [0, 1, 2, 3], None),
        ("0-9:4", [0, 4, 8], None),
        ("7,1-2,1", [1, 2, 7], None),
        ("0-6:3,10%2", [0, 3, 6, 10], 2),
    ],
)
def test_specifications_as_slurm_writes_them(text, indices, limit):
    found, throttle = parse_array(text, max_members=100)
    assert (list(found), throttle) == (indices, limit)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not an array range"),
        ("a-b", "is not an array range"),
        ("1-", "is not an array range"),
        ("-1", "is not an array range"),
        ("1,,2", "is not an array range"),
        ("3-1", "is empty"),
        ("0-3:0", "is empty"),
        ("0-3%", "must be a number from 1 on"),
        ("0-3%0", "must be a number from 1 on"),
        ("0-3%x", "must be a number from 1 on"),
        ("0-100", "more than 100 members"),
        ("0-99,200", "more than 100 members"),
        ("1\n", "is not an array range"),
    ],
)
def test_what_is_no_array_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_array(text, max_members=100)
