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


MOST_LINKS = 40


class UntrustedPath(Exception):
    """A way that is not gone; the text says why."""


def open_trusted(
    path: Path,
    *,
    uids: frozenset[int],
    not_below: os.stat_result,
    make: bool,
    umask: int | None = None,
) -> int:
    """Return a descriptor (O_PATH) of the directory `path`, whose missing parts are made with `make` (and
    with this `umask`, None: that of the process). Raises OSError; UntrustedPath for a link on the way that
    belongs to none of `uids` (anybody could have put it in a directory that others may write to), and for a
    way through the directory `not_below`."""
    way = contextlib.ExitStack()
    with way:
        parts = list(reversed(path.parts))
        links, fd = 0, -1
        while parts:
            name = parts.pop()
            inner = _step(name, fd, make=make, umask=umask)
            way.callback(os.close, inner)
            seen = os.fstat(inner)
            if stat.S_ISLNK(seen.st_mode):
                links += 1
                if links > MOST_LINKS or seen.st_uid not in uids:
                    raise UntrustedPath("a link on the way there belongs to somebody else")
                parts += reversed(Path(os.readlink(name, dir_fd=fd)).parts)
            elif os.path.samestat(seen, not_below):
                raise UntrustedPath("it is in the state directory")
            else:
                fd = inner
        return os.dup(fd)


def _step(name: str, fd: int, *, make: bool, umask: int | None) -> int:
    """Open one part of a path, itself if it is a link; it must be a link or a directory."""
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    dir_fd = None if name.startswith("/") else fd
    try:
        inner = os.open(name, flags, dir_fd=dir_fd)
    except FileNotFoundError:
        if not make:
            raise
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=dir_fd)
            if umask is not None:
                os.chmod(name, 0o777 & ~umask, dir_fd=dir_fd)
        inner = os.open(name, flags, dir_fd=dir_fd)
    mode = os.fstat(inner).st_mode
    if stat.S_ISLNK(mode) or stat.S_ISDIR(mode):
        return inner
    os.close(inner)
    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
