"""Output that cannot steer the terminal, however it is cut into pieces."""

from __future__ import annotations

import doctest
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.cli.framework import output
from leptond.cli.text.log_text import Cleaner

SGR = re.compile(r"\x1b\[[0-9;:]*m")
parts = st.sampled_from(
    ["\x1b", "[", "]", "0", ";", "1", "m", "J", "\x07", "\\", "a", "é", "\r", "\n", "\t", "\x9b", "P"]
)
texts = st.lists(parts | st.text(max_size=3), max_size=30).map("".join)


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(output).failed == 0


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\x1b[2J\x1b[1;1Hb", "ab"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]52;c;aGk=\x1b\\x", "x"),
        ("\x1bPq#0\x1b\\x", "x"),
        ("\x1bcx\x1b(B", "x"),
        ("\x1b]0;no end\nnext line", "]0;no end\nnext line"),
        ("a\rb\tc\nd\x08\x00\x7f\x9b", "a\rb\tc\nd"),
        ("50%|█████     |\r", "50%|█████     |\r"),
    ],
)
def test_what_steers_goes_and_text_stays(text, clean):
    assert Cleaner(color=False).feed(text) == clean


def test_a_sequence_without_an_end_is_shown_as_text_at_the_end():
    cleaner = Cleaner(color=False)
    assert (cleaner.feed("a\x1b]0;b"), cleaner.flush(), cleaner.flush()) == ("a", "]0;b", "")


def test_colours_stay_where_they_are_wanted():
    cleaner = Cleaner(color=True)
    assert cleaner.feed("\x1b[1;31mred\x1b[m\x1b[2J") == "\x1b[1;31mred\x1b[m"
    assert cleaner.colored


@given(texts, st.lists(st.integers(0, 40)), st.booleans())
def test_pieces_make_no_difference(text, cuts, color):
    whole = Cleaner(color=color)
    wanted = whole.feed(text) + whole.flush()
    pieces = Cleaner(color=color)
    places = sorted({min(cut, len(text)) for cut in cuts})
    got = "".join(
        pieces.feed(text[start:end]) for start, end in zip([0, *places], [*places, len(text)], strict=True)
    )
    assert got + pieces.flush() == wanted


@given(texts, st.booleans())
def test_nothing_that_steers_is_left(text, color):
    cleaner = Cleaner(color=color)
    shown = cleaner.feed(text) + cleaner.flush()
    rest = SGR.sub("", shown) if color else shown
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", rest)
