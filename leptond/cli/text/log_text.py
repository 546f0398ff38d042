"""A job's output on its way to the terminal: colours stay, other control sequences are removed."""

from __future__ import annotations

import re
import sys
from codecs import getincrementaldecoder

from leptond.cli.framework.terminal import echo

_ESCAPE = re.compile(
    r"""
    (?P<sgr> \x1b \[ [0-9;:]* m )
  | \x1b \[ [\x30-\x3f]* [\x20-\x2f]* [\x40-\x7e]           # CSI: cursor, erase, modes
  | \x1b [\]PX^_] [^\x07\x1b\x9c\n]* (?: \x07 | \x1b\\ | \x9c )  # OSC, DCS, SOS, PM, APC: titles, clipboard
  | \x1b [\x20-\x2f]* [\x30-\x5a\x5c\x60-\x7e]              # the two-character ones
    """,
    re.VERBOSE,
)
_UNFINISHED = re.compile(
    r"\x1b(?:\[[\x30-\x3f]*[\x20-\x2f]*|[\]PX^_][^\x07\x1b\x9c\n]{0,4096}\x1b?|[\x20-\x2f]*)?\Z"
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Cleaner:
    """Makes pieces of output safe to print. A sequence that a piece cuts in two is kept for the next."""

    def __init__(self, *, color: bool) -> None:
        self._color = color
        self._rest = ""
        self.colored = False

    def feed(self, text: str) -> str:
        """The part of `text`, after what an earlier piece left, that can be printed."""
        text = self._rest + text
        self._rest = ""
        cut = _UNFINISHED.search(text)
        if cut is not None:
            text, self._rest = text[: cut.start()], cut[0]
        kept: list[str] = []
        at = 0
        for match in _ESCAPE.finditer(text):
            kept.append(_CONTROL.sub("", text[at : match.start()]))
            if self._color and match["sgr"]:
                kept.append(match[0])
                self.colored = True
            at = match.end()
        kept.append(_CONTROL.sub("", text[at:]))
        return "".join(kept)

    def flush(self) -> str:
        """The rest that waited for another piece, as plain text."""
        rest, self._rest = self._rest, ""
        return _CONTROL.sub("", rest)


class LogWriter:
    """Writes a job's output to a stream as it comes. `raw` leaves it untouched."""

    def __init__(self, *, raw: bool, color: bool, to_stderr: bool = False) -> None:
        self._raw = raw
        self._cleaner = Cleaner(color=color)
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._to_stderr = to_stderr
        self._at_line_start = True

    def write(self, piece: str | bytes) -> None:
        """Print a piece at once."""
        if self._raw:
            data = piece if isinstance(piece, bytes) else piece.encode("utf-8", "surrogateescape")
            stream = sys.stderr.buffer if self._to_stderr else sys.stdout.buffer
            stream.write(data)
            stream.flush()
            self._at_line_start = data.endswith(b"\n") if data else self._at_line_start
            return
        self._print(self._cleaner.feed(self._decode(piece) if isinstance(piece, bytes) else piece))

    def _print(self, text: str) -> None:
        if text:
            echo(text, end="", err=self._to_stderr)
            self._at_line_start = text.endswith("\n")

    def finish(self) -> None:
        """Restore the terminal: colours reset, the cursor at the start of a line."""
        stream = sys.stderr if self._to_stderr else sys.stdout
        self._print(self._cleaner.flush())
        if self._cleaner.colored:
            echo("\x1b[0m", end="", err=self._to_stderr)
        if not self._at_line_start and stream.isatty():
            echo(err=self._to_stderr)
        self._at_line_start = True
