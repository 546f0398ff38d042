"""A stream of lines, read as events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from leptond.client.server_events import KEEPALIVE, ServerEvent, read_events


def test_events_are_read_as_the_standard_says():
    text = b": hi\r\nid: 7\nevent: a\ndata: 1\ndata:2\n\ndata: x\n\nevent: b\n\nretry: 5\nid: 9\ndata: cut"
    assert list(read_events(text.splitlines(keepends=True))) == [
        KEEPALIVE,
        ServerEvent("a", "1\n2", "7"),
        ServerEvent("message", "x", "7"),
        ServerEvent("b", "", "7"),
    ]


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data):
    for event in read_events(data.splitlines(keepends=True)):
        event.json()
