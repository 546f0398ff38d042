"""Sockets that are gone from their paths (the last logout removes a runtime directory) are made again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from leptond.base.directory_watch import DirectoryWatch
from leptond.base.errors import StartRefused

log = structlog.get_logger("leptond.socket_watch")

GATHER_S = 0.2
"""Seconds from a change of a directory to the look at it: what is removed is removed piece by piece."""

MISSING_S = 3.0
"""Seconds between two tries while a socket is gone: its directory may come back at any moment."""

UNWATCHED_S = 10.0
"""Seconds between two looks where the kernel cannot tell of changes."""


class Listening(Protocol):
    """A socket that the daemon listens at."""

    path: Path

    def is_there(self) -> bool:
        """Return True if clients find it at its path."""

    async def make_again(self) -> None:
        """Listen at the path anew. Raises StartRefused."""


class SocketWatch:
    """Makes sockets again when they are gone; `listening` returns those that are to be there. At rest while
    they are."""

    def __init__(self, listening: Callable[[], Sequence[Listening]]) -> None:
        self._listening = listening
        self._gone: set[Path] = set()

    async def run(self) -> None:
        """Run until cancelled."""
        with contextlib.ExitStack() as close:
            watch: DirectoryWatch | None = None
            changed = asyncio.Event()
            with contextlib.suppress(OSError):
                watch = DirectoryWatch()
                close.callback(watch.close)
                loop = asyncio.get_running_loop()
                loop.add_reader(watch.fd, _note, watch, changed)
                close.callback(loop.remove_reader, watch.fd)
            while True:
                delay_s = await self._look(watch)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay_s):
                        await changed.wait()
                await asyncio.sleep(GATHER_S)
                changed.clear()

    async def _look(self, watch: DirectoryWatch | None) -> float | None:
        """Make again what is gone; the seconds to the next look, None for when something changes."""
        try:
            if watch is not None:  # before the look, so that nothing is missed in between
                watch.watch({one.path.parent for one in self._listening() if one.is_there()})
            delay_s = None if watch is not None else UNWATCHED_S
        except OSError:
            delay_s = UNWATCHED_S
        for one in self._listening():
            if one.is_there():
                continue
            if one.path not in self._gone:
                self._gone.add(one.path)
                log.warning("socket.gone", path=str(one.path))
            try:
                await one.make_again()
            except StartRefused:
                delay_s = MISSING_S
            else:
                self._gone.discard(one.path)
                log.info("socket.made_again", path=str(one.path))
                delay_s = 0.0 if delay_s is None else delay_s  # its directory is a new one: watch it
        return delay_s


def _note(watch: DirectoryWatch, changed: asyncio.Event) -> None:
    watch.clear()
    changed.set()
