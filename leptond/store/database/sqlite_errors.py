"""What an error of SQLite means for the queue: wait for room, or stop before anything is trusted that may
not be on the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from enum import StrEnum
from pathlib import Path

from leptond.base.errors import StartRefused
from leptond.store.database.examine import RECOVER

EXIT_IO, EXIT_DATA = 74, 78  # sysexits.h: EX_IOERR, EX_CONFIG
PROBE_BYTES = 256 * 1024


class Trouble(StrEnum):
    """Kinds of failure."""

    NONE = "none"
    """Of the statement, not of the storage."""
    FULL = "full"
    """There was no room. The transaction is undone, and may be tried again."""
    IO = "io"
    """The disk failed. After a sync that failed the kernel may have dropped what it could not write, and a
    second sync would not tell: nothing that this process believes about the file can be trusted."""
    DAMAGED = "damaged"
    """The file is not what SQLite left."""


def trouble_of(error: BaseException, directory: Path) -> Trouble:
    """What `error` says of the storage in `directory`."""
    code = getattr(error, "sqlite_errorcode", None)
    if not isinstance(error, sqlite3.Error) or code is None:
        return Trouble.NONE
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return Trouble.FULL
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return Trouble.DAMAGED
        case sqlite3.SQLITE_IOERR:
            if code in (sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE) and no_room(directory):
                return Trouble.FULL  # a quota, or no room for the shared index of the log
            return Trouble.IO
    return Trouble.NONE


def no_room(directory: Path) -> bool:
    """Whether a small file cannot be written in `directory` because it is full, or a quota is."""
    probe = directory / f".probe-{os.getpid()}"
    try:
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(fd, 0, PROBE_BYTES)
        finally:
            os.close(fd)
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return False


def fatal(path: Path, error: BaseException) -> StartRefused | None:
    """Why the daemon has to end because of `error`; None when it can go on."""
    match trouble_of(error, path.parent):
        case Trouble.IO:
            return StartRefused(
                f"the disk under {path} failed: {error}. Nothing was answered that is not stored, and jobs "
                "that run go on. Look at the disk (kernel log), then start leptond again.",
                EXIT_IO,
            )
        case Trouble.DAMAGED:
            return StartRefused(
                f"{path} is damaged: {error}. {RECOVER}.",
                EXIT_DATA,
            )
    return None
