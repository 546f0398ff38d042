"""Files that are there whole or not at all, also after a crash of the machine.

Little but the standard library's core is imported here: shims load this module at their start.
"""

from __future__ import annotations

import errno
import os
import stat

RESERVED_BYTES = 4096
"""Bytes that :func:`reserve` allocates: more than an exit record needs."""


def write_durably(directory: str | int, name: str, text: str) -> None:
    """Write `text` to the file `name` in `directory` (a path or a descriptor) so that after a crash all of it
    is there, or what was there before. Raises OSError."""
    if isinstance(directory, str):
        with _Opened(directory) as fd:
            write_durably(fd, name, text)
        return
    write_whole(directory, name, text, sync=True)
    os.fsync(directory)


def write_whole(directory: str | int, name: str, text: str, *, sync: bool) -> None:
    """Replace the file `name` in `directory` (a path or a descriptor) so that readers find all of `text` or
    what was there before; after a crash of the machine only with `sync`. Raises OSError."""
    if isinstance(directory, str):
        with _Opened(directory) as fd:
            write_whole(fd, name, text, sync=sync)
        return
    temporary = f".{name}.tmp"
    fd = _aside(directory, temporary)
    try:
        data = text.encode()
        write_all(fd, data)
        os.ftruncate(fd, len(data))  # after the write: what was reserved for it is not given back before
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)
    try:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except IsADirectoryError:  # a job's own, in the place of a file
        os.rename(name, f".{name}.aside", src_dir_fd=directory, dst_dir_fd=directory)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def sync_directory(directory: str) -> None:
    """Make the names in `directory` durable. Raises OSError."""
    with _Opened(directory) as fd:
        os.fsync(fd)


def reserve(directory: str | int, name: str) -> None:
    """Take the room for a later :func:`write_durably` of the same name, so that a full disk cannot stop it.
    Best effort: without the room, that write waits for it like any other."""
    try:
        if isinstance(directory, str):
            with _Opened(directory) as fd:
                reserve(fd, name)
            return
        fd = _aside(directory, f".{name}.tmp")
        try:
            os.posix_fallocate(fd, 0, RESERVED_BYTES)
        finally:
            os.close(fd)
    except OSError:
        pass


def _aside(directory: int, temporary: str) -> int:
    """Open the file that is to take another's place: a regular one with this name alone. Others that stand
    there (a FIFO would be waited for, a hard link written through) are removed. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(temporary, flags, 0o600, dir_fd=directory)
        seen = os.fstat(fd)
        if stat.S_ISREG(seen.st_mode) and seen.st_nlink == 1:
            return fd
        os.close(fd)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
    os.unlink(temporary, dir_fd=directory)
    return os.open(temporary, flags | os.O_EXCL, 0o600, dir_fd=directory)


class _Opened:
    """The descriptor of a directory for the length of a block. Raises OSError. (contextlib costs a shim
    milliseconds.)"""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def __enter__(self) -> int:
        self._fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def write_all(fd: int, data: bytes) -> None:
    """Write the whole of `data`. Raises OSError."""
    while data:
        data = data[os.write(fd, data) :]


def read_all(fd: int) -> bytes:
    """Read to the end of the file or pipe. Raises OSError."""
    data = b""
    while part := os.read(fd, 1 << 20):
        data += part
    return data
