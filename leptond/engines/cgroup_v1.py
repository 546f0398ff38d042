"""Controllers of cgroup v1, as on hybrid machines: limits of memory, processes and CPU of an attempt, below
the daemon's own groups. They bound and count; processes are found and killed by other means."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

CONTROLLERS = ("memory", "pids", "cpu")
CPU_SHARES = 1024
"""What one CPU is worth in `cpu.shares`."""

OPTIONAL = frozenset({"memory.memsw.limit_in_bytes", "memory.oom.group", "memory.swap.max"})
"""Files that not every kernel has."""


def write_values(group: Path, values: Mapping[str, int]) -> None:
    """Write the values of a group's files, of v1 or v2, but for those that this kernel does not have. Raises
    OSError."""
    for file, value in values.items():
        try:
            (group / file).write_text(str(value))
        except OSError:
            if file not in OPTIONAL:
                raise


class Controllers:
    """The controllers of which the daemon may make groups: `places` are its own groups, by controller."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self.places = places

    def create(self, name: str, wanted: Mapping[str, Mapping[str, int]]) -> list[str]:
        """Make the group `name` under each controller of `wanted` that there is, with the values of its
        files. Return their directories. Raises OSError, and leaves none then."""
        made: list[str] = []
        try:
            for controller, values in wanted.items():
                if controller not in self.places:
                    continue
                path = self.places[controller] / name
                path.mkdir(mode=0o755)
                made.append(str(path))
                write_values(path, values)
        except OSError:
            for path_text in made:
                with contextlib.suppress(OSError):
                    Path(path_text).rmdir()
            raise
        return made

    def remove(self, name: str) -> None:
        """Remove the groups of that name in which no process is."""
        for place in self.places.values():
            with contextlib.suppress(OSError):
                (place / name).rmdir()

    def names(self, prefix: str) -> set[str]:
        """Return the names of groups that begin so."""
        return {path.name for place in self.places.values() for path in place.glob(f"{prefix}*")}


def own_places() -> dict[str, Path]:
    """Return the groups of this process in which it may make others, by controller: those of root alone,
    since v1 is not safe to be delegated to others."""
    if os.geteuid() != 0:
        return {}
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return {}
    return {
        controller: path
        for controller, path in places(mounts, groups).items()
        if os.access(path, os.W_OK) and (path / "cgroup.procs").exists()
    }


def places(mounts: list[str], groups: list[str]) -> dict[str, Path]:
    """Return where /proc's `mountinfo` and `cgroup` say that a process's groups are, by controller.

    >>> mounts = ["33 25 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"]
    >>> places(mounts, ["4:memory:/box/a", "8:pids:/", "0::/"])
    {'memory': PosixPath('/sys/fs/cgroup/memory/box/a')}
    """
    own = {}
    for line in groups:
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(filter(None, controllers.split(",")), path))
    found: dict[str, Path] = {}
    for line in mounts:
        head, _, tail = line.partition(" - ")
        words = tail.split()
        if len(words) < 3 or words[0] != "cgroup":
            continue
        root, point = head.split()[3:5]
        for controller in set(words[2].split(",")) & set(CONTROLLERS) & own.keys():
            inside = own[controller].removeprefix(root.rstrip("/")).lstrip("/")
            found[controller] = Path(point) / inside
    return found
