"""Files that are there whole or not at all, also after a crash of the machine.

Little but the standard library's core is imported here: shims load this module at their start.
"""

from __future__ import annotations

import os

RESERVED_BYTES = 4096
"""Bytes that :func:`reserve` allocates: more than an exit record needs."""


def write_durably(directory: str, name: str, text: str) -> None:
    """Write `text` to `directory`/`name` so that after a crash all of it is there, or what was there before.
    Raises OSError."""
    write_whole(directory, name, text, sync=True)
    sync_directory(directory)


def write_whole(directory: str, name: str, text: str, *, sync: bool) -> None:
    """Replace `directory`/`name` so that readers find all of `text` or what was there before; after a
    crash of the machine only with `sync`. Raises OSError."""
    temporary = os.path.join(directory, f".{name}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        data = text.encode()
        write_all(fd, data)
        os.ftruncate(fd, len(data))  # after the write: what was reserved for it is not given back before
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, os.path.join(directory, name))


def sync_directory(directory: str) -> None:
    """Make the names in `directory` durable. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def reserve(directory: str, name: str) -> None:
    """Take the room for a later :func:`write_durably` of the same name, so that a full disk cannot stop it.
    Best effort: without the room, that write waits for it like any other."""
    temporary = os.path.join(directory, f".{name}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(fd, 0, RESERVED_BYTES)
        finally:
            os.close(fd)
    except OSError:
        pass


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
