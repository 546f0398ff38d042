"""A progress bar on standard error, for work that takes longer than a blink and has a person before it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from leptond.cli.framework.session import Session

DELAY_S = 0.4
"""Seconds before a bar is drawn: work that is done sooner does not wait for its import."""


class Bar:
    """For the length of a ``with``: `text` says what is done, `total` of how many (None: it is not known;
    a function is asked only where a bar may be shown). Nothing is shown where standard error is no
    terminal."""

    def __init__(self, session: Session, text: str, total: int | Callable[[], int] | None = None) -> None:
        self._text = text
        self._total: int | None = None
        self._ask = total
        self._done = 0
        self._color = session.color
        self._shown: Any = None
        self._task: Any = None
        self._lock = threading.Lock()
        wanted = sys.stderr is not None and sys.stderr.isatty() and not session.verbose
        self._timer = threading.Timer(DELAY_S, self._show) if wanted else None

    def __enter__(self) -> Bar:
        if self._timer is not None:
            self._total = self._ask() if callable(self._ask) else self._ask
            self._timer.daemon = True
            self._timer.start()
        return self

    def add(self, count: int = 1) -> None:
        """So many more are done."""
        with self._lock:
            self._done += count
            if self._shown is not None:
                self._shown.update(self._task, completed=self._done)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer.join()
        if self._shown is not None:
            self._shown.stop()

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        counted = [MofNCompleteColumn()] if self._total is not None or self._done else []
        shown = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *counted,
            TimeElapsedColumn(),
            console=Console(stderr=True, color_system="auto" if self._color else None),
            transient=True,
            # lines of output go above the bar, where both are on one terminal
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
            redirect_stderr=True,
        )
        with self._lock:
            self._task = shown.add_task(self._text, total=self._total, completed=self._done)
            self._shown = shown
        shown.start()
