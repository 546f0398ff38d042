"""cgroup v2, where a part of it has been delegated to the daemon: a kill that nothing escapes."""

from __future__ import annotations

import os
import re
from pathlib import Path

PREFIX = "leptond-"


def delegated() -> Path | None:
    """The daemon's own cgroup if systemd delegated it (`Delegate=yes` marks it with an extended
    attribute), else None. A cgroup that merely happens to be writable belongs to somebody else."""
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
    """The directory of this process's cgroup in the v2 hierarchy, or None where there is none."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        groups = Path("/proc/self/cgroup").read_text().splitlines()
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


def create(root: Path, attempt_id: str) -> Path:
    """A new cgroup for an attempt. Raises OSError."""
    path = root / f"{PREFIX}{attempt_id}"
    path.mkdir(mode=0o755)
    return path


def processes(root: Path, attempt_id: str) -> set[int]:
    """Who is in the cgroup of an attempt, at any depth."""
    found: set[int] = set()
    for path, _, _ in os.walk(root / f"{PREFIX}{attempt_id}"):
        try:
            found.update(int(line) for line in (Path(path) / "cgroup.procs").read_text().split())
        except OSError:
            continue
    return found


def kill(root: Path, attempt_id: str) -> None:
    """Kills everything in the cgroup of an attempt, at once (Linux 5.14; before, nothing happens)."""
    try:
        (root / f"{PREFIX}{attempt_id}" / "cgroup.kill").write_text("1")
    except OSError:
        return


def remove(root: Path, attempt_id: str) -> None:
    """Removes the cgroup of an attempt, if nobody is in it."""
    for path, _, _ in os.walk(root / f"{PREFIX}{attempt_id}", topdown=False):
        try:
            Path(path).rmdir()
        except OSError:
            return
