"""cgroup v2, where a part of it has been delegated to the daemon: a kill that nothing escapes."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from leptond.config import EngineSettings

PREFIX = "leptond-"


def delegated() -> Path | None:
    """Return the daemon's own cgroup if systemd delegated it (`Delegate=yes` marks it with an extended
    attribute), else None. A cgroup that merely happens to be writable belongs to another program."""
    path = own()
    if path is None or not os.access(path, os.W_OK):
        return None
    for name in ("trusted.delegate", "user.delegate"):
        try:
            if os.getxattr(path, name) == b"1":
                return path
        except OSError:
            continue
    return None


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


class Cgroups:
    """The cgroups of attempts below `root`; with None there are none, and nothing happens."""

    def __init__(self, root: Path | None) -> None:
        self.root = root

    def create(self, attempt_id: str) -> str:
        """Make the cgroup of an attempt and return its path, empty where there are none. Raises OSError."""
        if self.root is None:
            return ""
        path = self.root / f"{PREFIX}{attempt_id}"
        path.mkdir(mode=0o755)
        return str(path)

    def attempts(self) -> set[str]:
        """Return the ids of the attempts that have a cgroup."""
        if self.root is None:
            return set()
        return {path.name.removeprefix(PREFIX) for path in self.root.glob(f"{PREFIX}*")}

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
        """Remove the cgroup of an attempt, if no process is in it."""
        for path, _, _ in self._walk(attempt_id):
            try:
                Path(path).rmdir()
            except OSError:
                return

    def _walk(self, attempt_id: str) -> Iterator[tuple[str, list[str], list[str]]]:
        if self.root is not None:
            yield from os.walk(self.root / f"{PREFIX}{attempt_id}", topdown=False)


def root_for(settings: EngineSettings) -> Path | None:
    """Return the cgroup that attempts get theirs in, by the settings; None for none."""
    if settings.containment == "descendants":
        return None
    if settings.cgroup_root:
        return Path(settings.cgroup_root)
    return own() if settings.containment == "cgroup" else delegated()
