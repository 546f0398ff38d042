"""Files in directories that others may change meanwhile: opened directory by directory, so that no link on
the way is followed, and read only where they are regular files."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ABSENT = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.EINVAL,
        errno.ENXIO,
        errno.EISDIR,
        errno.EACCES,
        errno.EPERM,
    }
)
"""Errors that say what stands there: nothing, or nothing that is to be read. Any other (no descriptors left,
a disk that stumbles) says nothing of the file."""

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_directory(path: Path, *, own: int = 2) -> int:
    """Return a descriptor of the directory `path`. Its last `own` parts must be directories themselves; what
    is above them is the administrator's, and may be a link. Raises OSError."""
    fd = os.open(path.parents[own - 1], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in path.parts[-own:]:
        try:
            inner = os.open(name, _DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = inner
    return fd


@contextlib.contextmanager
def directory(path: Path, *, own: int = 2) -> Iterator[int]:
    """Hold :func:`open_directory` for the length of a block. Raises OSError."""
    fd = open_directory(path, own=own)
    try:
        yield fd
    finally:
        os.close(fd)


def open_regular(name: str, dir_fd: int, *, linked: bool = False) -> int:
    """Return a descriptor to read the file `name` of a directory: a regular file that has no second name,
    unless `linked`. Raises OSError (EINVAL for anything else)."""
    fd = os.open(name, _FILE, dir_fd=dir_fd)
    seen = os.fstat(fd)
    if stat.S_ISREG(seen.st_mode) and (linked or seen.st_nlink <= 1):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "not a regular file of its own", name)


def read_regular(name: str, dir_fd: int, limit: int, *, linked: bool = False) -> bytes:
    """Return the first `limit` bytes of such a file. Raises OSError."""
    with open(open_regular(name, dir_fd, linked=linked), "rb") as file:
        return file.read(limit)


def read_file(path: Path, limit: int, *, own: int = 2, linked: bool = False) -> bytes:
    """Return the first `limit` bytes of a regular file, with the last `own` directories above it opened one
    by one. Raises OSError."""
    with directory(path.parent, own=own) as fd:
        return read_regular(path.name, fd, limit, linked=linked)
