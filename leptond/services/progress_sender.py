"""The senders of progress messages, where jobs run as their submitters: a process speaks for the attempt
whose supervising process is above it, and for no other."""

from __future__ import annotations

from leptond.base import procfs
from leptond.engines import procs

MOST = 4096
"""Senders that are remembered, so that their ancestors are not looked at for each message."""


class Senders:
    """Finds the attempt that a process belongs to."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], str] = {}

    def attempt_of(self, pid: int) -> str | None:
        """Return the id of the attempt of a process; empty for one of no attempt, None for one that has ended
        meanwhile."""
        stat = procfs.read_stat(pid) if pid > 0 else None
        if stat is None:
            return None
        key = (pid, stat.start_ticks)
        if key not in self._known:
            found = procs.attempt_of(pid)
            if found is None:
                return None
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[key] = found
        return self._known[key]
