"""Cgroups of attempts. Of cgroup v2, where a part of it has been delegated to the daemon: a kill that nothing
escapes, and limits. Of v1, where root has it: limits (:mod:`leptond.engines.cgroup_v1`)."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from leptond.base import procfs
from leptond.config import EngineSettings
from leptond.engines.cgroup_v1 import CPU_SHARES, Controllers, own_places, write_values

PREFIX = "leptond-"

LEAF = "daemon"
"""The group in cgroup v2 that the daemon moves into: one with processes cannot have groups with limits."""


def delegated(begin: Path | None) -> Path | None:
    """Return the cgroup to which `begin` belongs, if systemd delegated it (`Delegate=yes` marks it with an
    extended attribute), else None. A cgroup that merely happens to be writable belongs to another program."""
    path = _above_leaf(begin)
    if path is None or not os.access(path, os.W_OK):
        return None
    for name in ("trusted.delegate", "user.delegate"):
        try:
            if os.getxattr(path, name) == b"1":
                return path
        except OSError:
            continue
    return None


def _above_leaf(path: Path | None) -> Path | None:
    """Return the group that attempts get theirs in, of the one that the daemon is in."""
    return path.parent if path is not None and path.name == LEAF else path


def own() -> Path | None:
    """Return the directory of this process's cgroup in the v2 hierarchy, or None where there is none."""
    return of("self")


def attempt_in(pid: int) -> str | None:
    """Return the id of the attempt in whose cgroup a process is. Others may make cgroups of any name below
    their own; what belongs to this user is leptond's, and nobody else can move a process out of it."""
    path = of(pid)
    for place in (path, *path.parents) if path is not None else ():
        if place.name.startswith(PREFIX):
            try:
                ours = place.stat().st_uid == os.geteuid()
            except OSError:
                return None
            return place.name.removeprefix(PREFIX) if ours else None
    return None


def of(pid: int | str) -> Path | None:
    """Return the directory of a process's cgroup in the v2 hierarchy, or None where there is none."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    relative = next((line[3:] for line in groups if line.startswith("0::")), None)
    if relative is None:
        return None
    for line in mounts:
        head, _, tail = line.partition(" - ")
        if tail.startswith("cgroup2 "):
            root, point = head.split()[3:5]
            inside = relative.removeprefix(root.rstrip("/"))
            return Path(re.sub(r"\\040", " ", point)) / inside.lstrip("/")
    return None


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt may use: bytes of memory, and a share of the CPUs as so many of them. None: no
    bound."""

    mem_bytes: int | None = None
    cpus: int | None = None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The groups of an attempt: its directory in cgroup v2 (empty: none), and `more` of v1. `bounded`: they
    keep it below its limit of memory."""

    path: str = ""
    more: list[str] = []
    bounded: bool = False


HIGH = 0.9
"""The part of the limit of memory above which the kernel slows an attempt down to find some again."""

MAX_PROCESSES = 32768
"""Most processes and threads of an attempt with a group: many times what 16 ranks with data loaders have."""


class Cgroups:
    """The cgroups of attempts below `root` in cgroup v2, and those of `controllers` of v1; without either
    there are none, and nothing happens."""

    def __init__(self, root: Path | None, controllers: Controllers | None = None) -> None:
        self.root = root
        self._v1 = controllers or Controllers({})
        self._v2: frozenset[str] = frozenset()

    def open(self) -> None:
        """Have the kernel bound what is below `root`, as far as it can. Where the daemon is in `root`
        itself, it moves with its processes into a group below that; but a service of systemd has to be
        started there (DelegateSubgroup=, systemd 254), or it could not be restarted."""
        if self.root is None:
            return
        with contextlib.suppress(OSError):
            there = set((self.root / "cgroup.controllers").read_text().split()) & {"memory", "pids", "cpu"}
            if there and own() == self.root:
                if "INVOCATION_ID" in os.environ:
                    return
                (self.root / LEAF).mkdir(exist_ok=True)
                # others that are in it stay, and then the kernel does not let it have groups with limits
                for pid in (os.getpid(), *procfs.descendants(os.getpid())):
                    with contextlib.suppress(OSError):  # it has ended
                        (self.root / LEAF / "cgroup.procs").write_text(str(pid))
            taken = set()
            for controller in sorted(there):
                with contextlib.suppress(OSError):
                    (self.root / "cgroup.subtree_control").write_text(f"+{controller}")
                    taken.add(controller)
            self._v2 = frozenset(taken)

    @property
    def bounds_memory(self) -> str:
        """The way in which attempts are kept below their limits of memory, for people."""
        if "memory" in self._v2:
            return "cgroup v2"
        if "memory" in self._v1.places:
            return "cgroup v1"
        return "looks at their processes"

    def create(self, attempt_id: str, bounds: Bounds | None = None) -> Group:
        """Make the groups of an attempt. Raises OSError."""
        bounds = bounds or Bounds()
        name = f"{PREFIX}{attempt_id}"
        path = self.root / name if self.root is not None else None
        if path is not None:
            path.mkdir(mode=0o755)
            for controller, values in _v2_values(bounds).items():
                if controller in self._v2:
                    write_values(path, values)
        more = self._v1.create(name, _v1_values(bounds)) if bounds != Bounds() else []
        return Group(
            path=str(path) if path is not None else "",
            more=more,
            bounded=bounds.mem_bytes is not None and ("memory" in self._v2 or "memory" in self._v1.places),
        )

    def attempts(self) -> set[str]:
        """Return the ids of the attempts that have a cgroup."""
        found = {path.name for path in self.root.glob(f"{PREFIX}*")} if self.root is not None else set()
        return {name.removeprefix(PREFIX) for name in found | self._v1.names(PREFIX)}

    def processes(self, attempt_id: str) -> set[int]:
        """Return the pids in the cgroup of an attempt, at any depth."""
        found: set[int] = set()
        for path, _, _ in self._walk(attempt_id):
            try:
                found.update(int(line) for line in (Path(path) / "cgroup.procs").read_text().split())
            except OSError:
                continue
        return found

    def kill(self, attempt_id: str) -> None:
        """Kill everything in the cgroup of an attempt, at once (Linux 5.14; before, nothing happens)."""
        if self.root is not None:
            with contextlib.suppress(OSError):
                (self.root / f"{PREFIX}{attempt_id}" / "cgroup.kill").write_text("1")

    def remove(self, attempt_id: str) -> None:
        """Remove the cgroups of an attempt in which no process is."""
        self._v1.remove(f"{PREFIX}{attempt_id}")
        for path, _, _ in self._walk(attempt_id):
            try:
                Path(path).rmdir()
            except OSError:
                return

    def _walk(self, attempt_id: str) -> Iterator[tuple[str, list[str], list[str]]]:
        if self.root is not None:
            yield from os.walk(self.root / f"{PREFIX}{attempt_id}", topdown=False)


def _v2_values(bounds: Bounds) -> dict[str, dict[str, int]]:
    values = {"pids": {"pids.max": MAX_PROCESSES}}
    if bounds.mem_bytes is not None:
        values["memory"] = {
            "memory.max": bounds.mem_bytes,
            "memory.high": int(bounds.mem_bytes * HIGH),
            "memory.swap.max": 0,
            "memory.oom.group": 1,
        }
    if bounds.cpus is not None:
        values["cpu"] = {"cpu.weight": min(10000, 100 * bounds.cpus)}
    return values


def _v1_values(bounds: Bounds) -> dict[str, dict[str, int]]:
    values = {"pids": {"pids.max": MAX_PROCESSES}}
    if bounds.mem_bytes is not None:
        values["memory"] = {
            "memory.limit_in_bytes": bounds.mem_bytes,
            "memory.memsw.limit_in_bytes": bounds.mem_bytes,  # with swap
        }
    if bounds.cpus is not None:
        values["cpu"] = {"cpu.shares": CPU_SHARES * bounds.cpus}
    return values


def controllers_for(settings: EngineSettings) -> Controllers:
    """Return the controllers of cgroup v1 that attempts are bound by, by the settings."""
    return Controllers({} if settings.containment == "descendants" else own_places())


def root_for(settings: EngineSettings, started_in: Path | None = None) -> Path | None:
    """Return the cgroup that attempts get theirs in, by the settings; None for none. `started_in`: the one
    that their processes begin in, where it is not the daemon's own."""
    if settings.containment == "descendants":
        return None
    if settings.cgroup_root:
        return Path(settings.cgroup_root)
    begin = started_in if started_in is not None else own()
    return _above_leaf(begin) if settings.containment == "cgroup" else delegated(begin)
