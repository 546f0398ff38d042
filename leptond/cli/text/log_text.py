"""A job's output on its way to a terminal, a file or a pipe: colours stay on a terminal, other control
sequences are removed, and what is no terminal gets the lines that would stand on one."""

from __future__ import annotations

import sys
from codecs import getincrementaldecoder

from leptond.cli.framework.terminal import echo
from leptond.cli.text.escapes import CONTROL, ESCAPE, split_unfinished
from leptond.cli.text.screen import Screen


class Cleaner:
    """Makes pieces of output safe to print. A sequence that a piece cuts in two is kept for the next."""

    def __init__(self, *, color: bool) -> None:
        self._color = color
        self._rest = ""
        self.colored = False

    def feed(self, text: str) -> str:
        """The part of `text`, after what an earlier piece left, that can be printed."""
        text, self._rest = split_unfinished(self._rest + text)
        kept: list[str] = []
        at = 0
        for match in ESCAPE.finditer(text):
            kept.append(CONTROL.sub("", text[at : match.start()]))
            if self._color and match["sgr"]:
                kept.append(match[0])
                self.colored = True
            at = match.end()
        kept.append(CONTROL.sub("", text[at:]))
        return "".join(kept)

    def flush(self) -> str:
        """The rest that waited for another piece, as plain text."""
        rest, self._rest = self._rest, ""
        return CONTROL.sub("", rest)


class LogWriter:
    """Writes a job's output to a stream as it comes. `raw` leaves it untouched."""

    def __init__(self, *, raw: bool, color: bool, to_stderr: bool = False) -> None:
        self._raw = raw
        stream = sys.stderr if to_stderr else sys.stdout
        live = stream is not None and stream.isatty()
        self._cleaner: Cleaner | Screen = Cleaner(color=color) if live else Screen(color=color)
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
