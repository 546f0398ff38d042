"""What people may write for times, durations, sizes, signals and arrays, and what is refused."""

from __future__ import annotations

import contextlib
import doctest
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leptond.core.jobs import arrays, timespec
from leptond.core.jobs.arrays import parse_array
from leptond.core.jobs.timespec import (
    format_duration,
    format_size,
    parse_begin,
    parse_duration,
    parse_signal,
    parse_since,
    parse_size,
    spell_duration,
)

NOW = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)
CET = timezone(timedelta(hours=1))


@pytest.mark.parametrize("module", [timespec, arrays])
def test_the_examples_in_the_docstrings_hold(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45", 2700),
        ("0.5", 30),
        ("90m", 5400),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("2 days", 172800),
        ("1d 12h", 129600),
        ("1:30", 90),
        ("90:00", 5400),
        ("1:30:00", 5400),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("1-12:00:00", 129600),
        ("0-0:00:01", 1),
        ("500ms", 0.5),
        (" 2H ", 7200),
    ],
)
def test_a_time_limit_reads_as_slurm_reads_it(text, seconds):
    assert parse_duration(text, bare_s=60) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "-5",
        "1:99",
        "1:2:3:4",
        "h",
        "1hh",
        "1e3",
        "nan",
        "inf",
        "1h-2",
        "1-",
        ":30",
        "٣h",
        "1h;",
        "9" * 40,
    ],
)
def test_what_is_not_a_duration_is_refused_by_name(text):
    with pytest.raises(ValueError, match=r"not a duration|60 or more"):
        parse_duration(text, bare_s=1)


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_a_clear_refusal(text):
    for parse in (
        lambda t: parse_duration(t, bare_s=60),
        lambda t: parse_begin(t, now=NOW, zone=CET),
        lambda t: parse_since(t, now=NOW, zone=CET),
        parse_size,
        parse_signal,
        lambda t: parse_array(t, max_members=1000),
    ):
        with contextlib.suppress(ValueError):
            parse(text)


@given(st.floats(min_value=0, max_value=10 * 365 * 86400, allow_subnormal=False).map(lambda x: round(x, 9)))
@example(0.1)
@example(1e-05)
@example(86400.0)
def test_a_spelled_duration_reads_back_exactly(seconds):
    assert parse_duration(spell_duration(seconds), bare_s=60) == seconds


@given(st.integers(0, 10 * 365 * 86400))
def test_a_formatted_duration_is_short_and_rounds_down_by_less_than_its_last_unit(seconds):
    text = format_duration(seconds)
    assert len(text) <= 8
    back = parse_duration(text, bare_s=1)
    assert back <= seconds
    assert seconds - back < {"d": 86400, "h": 3600, "m": 60, "s": 1}[text[-1]]


@given(
    days=st.integers(0, 99), hours=st.integers(0, 23), minutes=st.integers(0, 59), seconds=st.integers(0, 59)
)
def test_slurms_long_form_adds_up(days, hours, minutes, seconds):
    text = f"{days}-{hours:02}:{minutes:02}:{seconds:02}"
    wanted = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    assert parse_duration(text, bare_s=60) == wanted.total_seconds()


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("now", NOW),
        ("now+2h", NOW + timedelta(hours=2)),
        ("now+90", NOW + timedelta(seconds=90)),
        ("now + 1 day", NOW + timedelta(days=1)),
        ("18:00", datetime(2026, 3, 4, 17, 0, tzinfo=UTC)),
        ("16:00", datetime(2026, 3, 5, 15, 0, tzinfo=UTC)),
        ("noon", datetime(2026, 3, 5, 11, 0, tzinfo=UTC)),
        ("midnight", datetime(2026, 3, 4, 23, 0, tzinfo=UTC)),
        ("2026-12-24", datetime(2026, 12, 23, 23, 0, tzinfo=UTC)),
        ("2026-12-24T18:00", datetime(2026, 12, 24, 17, 0, tzinfo=UTC)),
        ("2026-12-24 18:00:05", datetime(2026, 12, 24, 17, 0, 5, tzinfo=UTC)),
        ("2026-12-24T18:00:00Z", datetime(2026, 12, 24, 18, 0, tzinfo=UTC)),
        ("2026-12-24T18:00:00-05:00", datetime(2026, 12, 24, 23, 0, tzinfo=UTC)),
    ],
)
def test_a_begin_time_is_an_instant_in_utc(text, at):
    # NOW is 16:30 in this zone, so 16:00 is tomorrow
    got = parse_begin(text, now=NOW, zone=CET)
    assert got == at
    assert got.tzinfo is UTC


@pytest.mark.parametrize("text", ["25:00", "18:61", "tomorrowish", "now+", "now-2h", "2026-13-01", ""])
def test_what_is_not_a_time_is_refused(text):
    with pytest.raises(ValueError, match="is not a time"):
        parse_begin(text, now=NOW, zone=CET)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("3 days", NOW - timedelta(days=3)),
        ("today", datetime(2026, 3, 3, 23, 0, tzinfo=UTC)),
        ("2026-03-01", datetime(2026, 2, 28, 23, 0, tzinfo=UTC)),
        ("2026-03-01T00:00:00Z", datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_since_looks_back(text, at):
    assert parse_since(text, now=NOW, zone=CET) == at


@pytest.mark.parametrize("text", ["0", "", "5", "9999999999w", "yesterdayish"])
def test_since_refuses_the_rest(text):
    with pytest.raises(ValueError, match="is not a time"):
        parse_since(text, now=NOW, zone=CET)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("65536", 65536),
        ("64k", 65536),
        ("256M", 1 << 28),
        ("1.5 GiB", 3 << 29),
        ("2TB", 2 << 40),
        ("7B", 7),
    ],
)
def test_sizes_are_powers_of_1024(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1X", "1e9", "1iB", "nan"])
def test_what_is_not_a_size_is_refused(text):
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@given(st.integers(0, 1 << 45))
def test_a_formatted_size_is_near_the_size(size):
    assert abs(parse_size(format_size(size)) - size) <= size * 0.051


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("USR1@120", ("USR1", 120, False)),
        ("sigterm@1m", ("TERM", 60, False)),
        ("USR2", ("USR2", 60, False)),
        ("INT@1:30", ("INT", 90, False)),
        ("B:USR1@60", ("USR1", 60, True)),
    ],
)
def test_warning_signals(text, wanted):
    assert parse_signal(text) == wanted


@pytest.mark.parametrize("text", ["KILL@10", "USR1@", "USR1@0", "A:USR1@60", "B:", "", "10@10", "USR1@x"])
def test_what_is_not_a_warning_signal_is_refused(text):
    with pytest.raises(ValueError, match=r"not a warning signal|not a duration|over 0"):
        parse_signal(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0-9%4", (list(range(10)), 4)),
        ("1,3,5-7", ([1, 3, 5, 6, 7], None)),
        ("0-15:5", ([0, 5, 10, 15], None)),
        ("5,5,4-5", ([4, 5], None)),
    ],
)
def test_arrays_read_as_slurm_reads_them(text, wanted):
    indices, limit = parse_array(text, max_members=100)
    assert (list(indices), limit) == wanted


@pytest.mark.parametrize("text", ["", "a", "3-1", "0-9:0", "0-9%", "0-9%0", "1,,2", "-1", "0-999999999"])
def test_what_is_not_an_array_is_refused(text):
    with pytest.raises(ValueError, match="array"):
        parse_array(text, max_members=100)


@given(st.sets(st.integers(0, 500), min_size=1), st.none() | st.integers(1, 99))
def test_an_array_spelled_out_is_read_back(indices, limit):
    text = ",".join(map(str, indices)) + (f"%{limit}" if limit else "")
    found, at_a_time = parse_array(text, max_members=1000)
    assert (list(found), at_a_time) == (sorted(indices), limit)
