"""The widths of tables, for any columns, contents and terminal."""

from __future__ import annotations

import doctest

from hypothesis import given
from hypothesis import strategies as st

from leptond.cli.commands import queue, status
from leptond.cli.framework import layout
from leptond.cli.framework.layout import FOLD_MIN, GAP, Column, fit, shortened

COLUMNS = st.builds(
    Column,
    st.text("ABCDEF", min_size=1, max_size=8),
    right=st.booleans(),
    fold=st.booleans(),
    shorten=st.sampled_from([0, 0, 6, 8]),
    drop=st.integers(0, 4),
)


@given(st.lists(st.tuples(COLUMNS, st.integers(0, 200)), min_size=1, max_size=12), st.integers(1, 250))
def test_a_table_fits_and_cuts_nothing_that_may_not_be_cut(table, room):
    columns = [column for column, _ in table]
    wanted = [max(width, len(column.head)) for column, width in table]
    widths = fit(columns, wanted, room)
    line = sum(widths.values()) + GAP * (len(widths) - 1)
    for at, column in enumerate(columns):
        if at not in widths:
            assert column.drop, "only what may be left out is"
            continue
        assert widths[at] <= wanted[at]
        if not column.fold and not column.shorten:
            assert widths[at] == wanted[at], "numbers and states are whole"
        assert widths[at] >= len(column.head)
    if sum(wanted) + GAP * (len(columns) - 1) <= room:
        assert widths == dict(enumerate(wanted)), "with room enough nothing gives way"
    if line > room:
        assert not any(column.drop for at, column in enumerate(columns) if at in widths)
    elif len(widths) < len(columns) or any(widths[at] < wanted[at] for at in widths):
        # what gives way does not give way for nothing: what could be wider has no room left
        assert line >= room - max(wanted) - GAP or line == room


@given(st.integers(1, 128), st.integers(1, 64), st.integers(0, 300), st.sampled_from([80, 100, 140]))
def test_the_queue_has_id_state_and_reason_at_each_usual_width(name, user, reason, room):
    for columns in (queue._COLUMNS, queue._HISTORY_COLUMNS, (*status._HEAD, status._STARTS, status._WHY)):
        natural = {"NAME": name, "USER": user, "REASON": reason, "ID": 11, "STATE": 9, "GPUS": 8, "TIME": 7}
        wanted = [max(len(column.head), natural.get(column.head, 6)) for column in columns]
        widths = fit(columns, wanted, room)
        shown = {columns[at].head: width for at, width in widths.items()}
        assert sum(widths.values()) + GAP * (len(widths) - 1) <= room
        assert (shown["ID"], shown["STATE"]) == (11, 9)
        assert shown["REASON"] >= min(FOLD_MIN, max(reason, 6))
        assert shown["NAME"] >= min(8, max(name, 4))


@given(st.text("abc-1", max_size=80), st.integers(1, 80))
def test_a_name_keeps_its_beginning_and_its_end(text, width):
    short = shortened(text, width)
    assert len(short) <= width
    if len(text) <= width:
        assert short == text
    elif width >= 3:
        begin, _, end = short.partition("…")
        assert text.startswith(begin)
        assert text.endswith(end)
        assert len(short) == width


def test_the_examples_hold():
    assert doctest.testmod(layout).failed == 0
