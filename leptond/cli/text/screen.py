"""Output as a terminal would show it, line by line, for readers that are no terminal: a progress bar that is
drawn a thousand times is one line."""

from __future__ import annotations

import re

from leptond.cli.text.escapes import CONTROL, ESCAPE, split_unfinished

COLUMNS = 64 * 1024
"""The longest line; a longer one is passed on in parts."""
ROWS = 16
"""The rows that a stream may move up to. They are held back from the first such move on."""

_TOKEN = re.compile(r"[^\x1b\r\n\b]+|[\r\n\b]|\x1b")
_MOVE = re.compile(r"\x1b\[([0-9]{0,4})([A-G])\Z")
_ERASE = re.compile(r"\x1b\[([0-2]?)K\Z")


class Screen:
    """Turns pieces of output into the lines that would stand on a terminal without margins: carriage returns,
    backspaces, moves of the cursor and erased lines take effect, other sequences are left out (with `color`
    except colours). What comes out does not depend on how the output was cut into pieces."""

    def __init__(self, *, color: bool = False) -> None:
        self._color = color
        self._rest = ""  # the beginning of a sequence
        self._rows: list[list[str]] = [[]]
        self._row = 0
        self._column = 0
        self._style = ""  # colours for the next character
        self._moves = False
        self._done: list[str] = []
        self.colored = False

    def feed(self, text: str) -> str:
        """The lines that are complete with `text`."""
        text, self._rest = split_unfinished(self._rest + text)
        at = 0
        while (match := _TOKEN.match(text, at)) is not None:
            token = match[0]
            if token == "\x1b" and (escape := ESCAPE.match(text, at)) is not None:
                self._escape(escape)
                at = escape.end()
                continue
            at = match.end()
            if token == "\r":
                self._column = 0
            elif token == "\n":
                self._next_line()
            elif token == "\b":
                self._column = max(0, self._column - 1)
            elif token != "\x1b":
                self._put(CONTROL.sub("", token))
        return self._take()

    def flush(self) -> str:
        """What stands there at the end, the last line without a newline."""
        self._rest = ""
        self._end_style(self._rows[-1])
        rows = ["".join(row) for row in self._rows]
        self._rows, self._row, self._column, self._moves = [[]], 0, 0, False
        self._done.append("\n".join(rows))
        return self._take()

    def _take(self) -> str:
        done, self._done = "".join(self._done), []
        return done

    def _put(self, text: str) -> None:
        while text:
            row = self._rows[self._row]
            part, text = text[: COLUMNS - self._column], text[COLUMNS - self._column :]
            cells = list(part)
            if cells and self._style:
                cells[0], self._style = self._style + cells[0], ""
            if self._column > len(row):
                row.extend(" " * (self._column - len(row)))
            row[self._column : self._column + len(cells)] = cells
            self._column += len(cells)
            if self._column >= COLUMNS:
                # the rows above it, if any, come first
                self._done.append("\n".join("".join(row) for row in self._rows[: self._row + 1]))
                del self._rows[: self._row]
                self._rows[0], self._row, self._column = [], 0, 0

    def _end_style(self, row: list[str]) -> None:
        if self._style:
            row.append(self._style)
            self._style = ""

    def _next_line(self) -> None:
        self._end_style(self._rows[self._row])
        self._row, self._column = self._row + 1, 0
        if self._row == len(self._rows):
            self._rows.append([])
        while len(self._rows) > (ROWS if self._moves else 1):
            self._done.append("".join(self._rows.pop(0)) + "\n")
            self._row -= 1

    def _escape(self, escape: re.Match[str]) -> None:
        sequence = escape[0]
        if escape["sgr"]:
            if self._color:
                self._style += sequence
                self.colored = True
            return
        erased = _ERASE.match(sequence)
        if erased is not None:
            self._erase(erased[1])
        moved = _MOVE.match(sequence)
        if moved is not None:
            self._move(int(moved[1] or 1), moved[2])

    def _erase(self, what: str) -> None:
        row = self._rows[self._row]
        if what == "2":
            row.clear()
        elif what == "1":
            row[: self._column + 1] = " " * min(len(row), self._column + 1)
        else:
            del row[self._column :]

    def _move(self, by: int, where: str) -> None:
        if where in "AF":
            self._moves = True
            up = min(by, ROWS - 1)
            while self._row < up and len(self._rows) < ROWS:
                self._rows.insert(0, [])  # it has been passed on already, and is drawn anew
                self._row += 1
            self._row = max(0, self._row - up)
        elif where in "BE":
            self._row = min(len(self._rows) - 1, self._row + by)
        elif where == "C":
            self._column = min(COLUMNS - 1, self._column + by)
        elif where == "D":
            self._column = max(0, self._column - by)
        elif where == "G":
            self._column = min(COLUMNS, max(1, by)) - 1
        if where in "EF":
            self._column = 0


def shown_lines(text: str) -> list[str]:
    """The lines of a whole text as a terminal would show them, without control characters.

    >>> shown_lines("a\\r 50%|##  |\\r100%|####|\\nb\\x1b[2J")
    ['100%|####|', 'b']
    """
    screen = Screen()
    lines = (screen.feed(text) + screen.flush()).split("\n")
    return lines[:-1] if lines[-1] == "" else lines
