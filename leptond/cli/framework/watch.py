"""`--watch`: the same picture drawn again and again, until Ctrl-C."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable

from leptond.cli.framework.session import Session

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


class _Terminal(io.StringIO):
    """Collects what is drawn for a terminal."""

    def isatty(self) -> bool:
        return True


def watch(session: Session, draw: Callable[[], None], every_s: float) -> None:
    """Draw every `every_s` seconds. On a terminal each picture takes the place of the last, and the last
    one stays at the end; in a pipe they follow one another. While the daemon is away it says so and goes
    on."""
    screen = sys.stdout
    frame = ""
    if session.table:
        screen.write(_ENTER)
    try:
        while True:
            if session.table:
                frame = _frame(session, draw)
                screen.write(_HOME + _fitted(frame) + _REST_OF_SCREEN)
            else:
                _draw(session, draw)
            screen.flush()
            time.sleep(every_s)
    except KeyboardInterrupt:
        pass  # how a watch ends
    finally:
        if session.table:
            screen.write(_LEAVE + frame)
            screen.flush()


def _frame(session: Session, draw: Callable[[], None]) -> str:
    before = sys.stdout, sys.stderr
    collected = _Terminal()
    sys.stdout = sys.stderr = collected
    try:
        _draw(session, draw)
    finally:
        sys.stdout, sys.stderr = before
    return collected.getvalue()


def _draw(session: Session, draw: Callable[[], None]) -> None:
    from leptond.client.errors import ClientError

    try:
        draw()
    except ClientError as error:
        session.report(error)


def _fitted(frame: str) -> str:
    """As many lines as the terminal has, each cleared to its end."""
    try:
        height = os.get_terminal_size(sys.stdout.fileno()).lines
    except OSError:
        height = 24
    lines = frame.splitlines()
    if len(lines) >= height:
        lines = [*lines[: height - 2], f"... and {len(lines) - height + 2} lines more"]
    return "".join(f"{line}{_REST_OF_LINE}\r\n" for line in lines)
