"""What is no terminal gets the lines that would stand on one, however the output is cut."""

import io
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.cli.text import log_text
from leptond.cli.text.log_text import LogWriter
from leptond.cli.text.screen import COLUMNS, ROWS, Screen, shown_lines

BAR = "".join(f"\r {n:3}%|{'#' * (n // 10):<10}| {n}/100" for n in range(0, 101, 5)) + "\n"
NESTED = (
    "outer 0" + "".join(f"\n\r inner {n}\x1b[A\r outer {n // 5}" for n in range(11)) + "\n\r\x1b[K\x1b[A\n"
)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a\nb", ["a", "b"]),
        ("a\r\nb\r\n", ["a", "b"]),
        (BAR, [" 100%|##########| 100/100"]),
        ("step 1\n" + BAR + "done\n", ["step 1", " 100%|##########| 100/100", "done"]),
        ("100%\r 5%", [" 5%%"]),
        ("100%\r\x1b[K5%", ["5%"]),
        ("50%|█████\r", ["50%|█████"]),
        ("abc\b\bX", ["aXc"]),
        ("abc\x1b[2Dx\x1b[5Gy", ["axc y"]),
        ("\x1b[31mred\x1b[0m\x1b]0;title\x07\x00!", ["red!"]),
        (NESTED, ["outer 0", " outer 2"]),
        ("up\x1b[99A\x1b[99Bx", [*[""] * (ROWS - 1), "upx"]),
        ("é\u2028x\x85", ["é\u2028x"]),
    ],
)
def test_the_lines_of_a_terminal(text, lines):
    assert shown_lines(text) == lines


def test_colours_go_with_their_characters():
    screen = Screen(color=True)
    assert screen.feed("\x1b[32m50%\x1b[0m|\r\x1b[32m90%\x1b[0m|\n") == "\x1b[32m90%\x1b[0m|\n"
    assert screen.feed("x\x1b[0m\n") == "x\x1b[0m\n"
    assert screen.colored


MOVES = ["\x1b[A", "\x1b[3B", "\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[4C", "\x1b[2D", "\x1b[7G", "\x1b[E"]
OTHERS = [
    "\x1b[31m",
    "\x1b]0;t\x07",
    "\x1b",
    "[",
    "\x00",
    " 10%|█ | 1/9",
    "é",
    "word ",
    "\x1b[99999C",
    "\x1b[J",
]
PIECES = st.sampled_from(["\r", "\n", "\b", *MOVES, *OTHERS])
STREAMS = st.lists(PIECES | st.text(max_size=3), max_size=40).map("".join)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def pieces(whole, cuts):
    places = sorted({min(cut, len(whole)) for cut in cuts})
    return [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]


@given(STREAMS, CUTS, st.booleans())
def test_pieces_make_no_difference(text, cuts, color):
    whole, cut = Screen(color=color), Screen(color=color)
    wanted = whole.feed(text) + whole.flush()
    assert "".join(map(cut.feed, pieces(text, cuts))) + cut.flush() == wanted


class Pipe(io.StringIO):
    def isatty(self):
        return False


@given(STREAMS.map(lambda text: text.encode("utf-8", "replace")) | st.binary(max_size=60), CUTS)
def test_bytes_may_be_cut_inside_a_character(data, cuts):
    def written(parts):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(log_text.sys, "stdout", pipe := Pipe())
            writer = LogWriter(raw=False, color=False)
            for part in parts:
                writer.write(part)
            writer.finish()
        return pipe.getvalue()

    assert written(pieces(data, cuts)) == written([data])


def test_a_line_without_end_is_passed_on_in_parts_and_takes_no_more_memory():
    screen, got = Screen(), 0
    for _ in range(40):
        got += len(screen.feed("x" * 10_000))
        assert sum(map(len, screen._rows)) <= COLUMNS
    assert got + len(screen.flush()) == 400_000
    stream = "ab" * COLUMNS + "\rX\n"
    whole, cut = Screen(), Screen()
    assert whole.feed(stream) == "".join(cut.feed(stream[at : at + 999]) for at in range(0, len(stream), 999))


@pytest.mark.parametrize(
    "piece", ["\x1b[1", "\x1b]0;", "\x1b[A", "\r", "\x1b", "\x1b[;", "\n\x1b[9A", "word\n"]
)
def test_the_work_grows_with_the_output_alone(piece):
    def took_s(count):
        screen, begin = Screen(), time.process_time()
        for at in range(0, count, 1000):
            screen.feed(piece * min(1000, count - at))
        return time.process_time() - begin

    assert took_s(40_000) < 20 * took_s(4_000) + 0.5
