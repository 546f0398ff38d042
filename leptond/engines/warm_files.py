"""The files that imports have read, and if they have changed since.

Loaded by a zygote that runs in the job's interpreter; uses the standard library alone."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

HIGH_FD = 64
"""Above the numbers that a shim puts its descriptors at."""
CHANGES = 0x2 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
"""The inotify events of a directory: writes, moves, creations, removals, its own end."""
LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "zfs", "f2fs", "squashfs", "erofs"})
"""File systems of which every change is reported: no other machine writes them, and nothing lies below."""

files: dict[str, object] = {}
"""What every job has read, by path, as it was."""
watch = -1
"""The inotify descriptor for changes on disk; -1: there is none."""


def note(paths: Iterable[str], more: Iterable[str]) -> None:
    """Note the state of the files `paths`, which every job reads, and watch their directories and those of
    `more`."""
    for path in paths:
        files[path] = file_state(path)
    every = {*files, *more}
    _watch({path if os.path.isdir(path) else os.path.dirname(path) for path in every})


def _watch(directories: set[str]) -> None:
    """Have the kernel report changes in these directories, so that not every start has to check a thousand
    files. Where it cannot (no watches left, a file system whose files others write), `watch` stays -1."""
    global watch
    with open("/proc/self/mountinfo") as file:
        mounts = [line.partition(" - ") for line in file]
    kinds = {before.split()[4]: after.split()[0] for before, _, after in mounts}
    libc = ctypes.CDLL(None)
    fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    for directory in directories:
        mount = place = os.path.realpath(directory)
        while mount not in kinds and mount != "/":
            mount = os.path.dirname(mount)
        if kinds.get(mount) not in LOCAL or libc.inotify_add_watch(fd, os.fsencode(place), CHANGES) < 0:
            os.close(fd)
            return
    # checked once more: something may have changed before the watch
    if all(file_state(path) == seen for path, seen in files.items()):
        watch = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
    os.close(fd)


def may_have_changed() -> bool:
    """Return True if the kernel may have reported a change. The report is not read: it stays there for every
    child, which then checks the files itself."""
    if watch < 0:
        return True
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    return bool(poll.poll(0))


def file_state(path: str) -> object:
    """Return what changes with a file, or the importable names of a directory; None: there is none."""
    try:
        seen = os.stat(path)
        if stat.S_ISDIR(seen.st_mode):
            names = os.listdir(path)
            return sorted(name for name in names if _importable(name))
    except OSError:
        return None
    return (seen.st_mtime_ns, seen.st_size, seen.st_ino)


def _importable(name: str) -> bool:
    return name.endswith((".py", ".so", ".pth")) or ("." not in name and name != "__pycache__")
