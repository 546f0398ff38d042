"""Memory of an attempt's processes: how much they have used, and, where no cgroup bounds them, the end of
those that use more than their limit."""

from __future__ import annotations

import os

from leptond.base import procfs
from leptond.engines.shim.clock import boot_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOOK_S = 0.5
"""Seconds from one look at the processes to the next, where no cgroup bounds them."""
MOST_CPU = 0.02
"""Most of a core that the looks may take: on a machine with many processes there are fewer of them."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Memory:
    """The memory of the processes below `root`, for the attempt of a `launch`. `due`: when to look at it
    next, in seconds since boot; None: a cgroup bounds it, or nothing does."""

    def __init__(self, launch: dict[str, Any], root: int, now: float) -> None:
        self._root = root
        self._limit: int | None = launch.get("mem_bytes")
        self._groups = [*launch.get("cgroups", ()), launch["cgroup"]]
        self._peak = 0
        self.due: float | None = now + LOOK_S if self._limit is not None and not launch["bounded"] else None

    def look(self, now: float) -> int:
        """Look at the processes; return what they use if that is more than their limit, else 0."""
        assert self._limit is not None
        pids = list(procfs.descendants(self._root))
        used = sum(map(_own_bytes, pids))
        if used > self._limit:  # memory that a fork shares was counted for each of them
            used = sum(map(_part_bytes, pids))
        self._peak = max(self._peak, used)
        after = boot_now()
        self.due = after + max(LOOK_S, (after - now) / MOST_CPU)
        return used if used > self._limit else 0

    def note(self, record: dict[str, Any]) -> None:
        """Add to an exit record what the processes have used, and how many the kernel has killed for it."""
        for group in filter(None, self._groups):
            record["oom_kills"] = record.get("oom_kills", 0) + _killed_in(group)
            for name in ("memory.peak", "memory.max_usage_in_bytes"):
                self._peak = max(self._peak, _number_in(os.path.join(group, name)))
        record["peak_mem_bytes"] = self._peak


def _own_bytes(pid: int) -> int:
    """Return the memory of a process that no file is behind."""
    words = (procfs.read_file(pid, "statm") or b"").split()
    return (int(words[1]) - int(words[2])) * PAGE_BYTES if len(words) > 2 else 0


def _part_bytes(pid: int) -> int:
    """Return the memory of a process, of what it shares its part, without what files are behind."""
    found = 0
    for line in (procfs.read_file(pid, "smaps_rollup") or b"").splitlines():
        if line.startswith((b"Pss_Anon:", b"Pss_Shmem:")):
            found += int(line.split()[1]) * 1024
    return found


def _killed_in(group: str) -> int:
    for name in ("memory.events", "memory.oom_control"):
        try:
            with open(os.path.join(group, name)) as file:
                for line in file:
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        except (OSError, ValueError):
            continue
    return 0


def _number_in(path: str) -> int:
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
