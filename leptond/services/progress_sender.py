"""The senders of progress messages, where jobs run as their submitters: a process speaks for the attempt
whose supervising process is above it, or in whose cgroup it is, and for no other."""

from __future__ import annotations

import os
import re
from pathlib import Path

from leptond.base import procfs

MOST = 4096
"""Senders that are remembered, so that their ancestors are not looked at for each message."""
DEEPEST = 64

_CGROUP = re.compile(rb"/leptond-([0-9a-f]{32})(?:/|$)", re.MULTILINE)
_SHIM = b"LEPTOND_SHIM="


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
            found = _in_cgroup(pid) or _below(pid)
            if found is None:
                return None
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[key] = found
        return self._known[key]


def _in_cgroup(pid: int) -> str | None:
    """Return the attempt in whose cgroup a process is: only root can move it out of there."""
    found = _CGROUP.search(procfs.read_file(pid, "cgroup") or b"")
    return found[1].decode() if found is not None else None


def _below(pid: int) -> str | None:
    """Return the attempt whose shim is the nearest ancestor; empty where there is none, None where a process
    on the way has just ended."""
    for _ in range(DEEPEST):
        stat = procfs.read_stat(pid)
        if stat is None:
            return None
        for item in (procfs.read_file(pid, "environ") or b"").split(b"\0"):
            # anybody may set the variable: in a process of the daemon's own user it is true
            if item.startswith(_SHIM) and _is_own(pid):
                return item[len(_SHIM) :].decode("ascii", "replace")
        pid = stat.parent
        if pid <= 1:
            return ""
    return ""


def _is_own(pid: int) -> bool:
    """Return True if all uids of a process are those of the daemon."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    found = re.search(r"^Uid:\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)$", text, re.MULTILINE)
    return found is not None and set(map(int, found.groups())) == {os.geteuid()}
