"""Writing at once, and without what steers a terminal."""

from __future__ import annotations

import sys

import pytest

from leptond.cli.framework.terminal import clean, echo


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 漢", "plain ü 漢"),
        ("a\tb\r\nc", "a b  c"),
        ("\x1b]0;title\x07x", "]0;titlex"),
        ("\x9b31mred", "31mred"),
        ("abc\u202edef\u2066g\u200f", "abcdefg"),
        ("two\u2028lines", "twolines"),
        (47, "47"),
    ],
)
def test_what_steers_a_terminal_is_taken_out(text: object, shown: str) -> None:
    assert clean(text) == shown


def test_what_is_named_stays() -> None:
    assert clean("a\nb\tc\x1b", keep="\n") == "a\nb c"


def test_a_line_goes_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    class Stream:
        def write(self, text: str) -> None:
            written.append(text)

        def flush(self) -> None:
            written.append("<flush>")

    monkeypatch.setattr(sys, "stderr", Stream())
    echo("a", end="", err=True)
    assert written == ["a", "<flush>"]


def test_a_stream_that_the_caller_closed_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    echo("nobody reads this")
