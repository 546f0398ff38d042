"""Errors of SQLite: what the callers of the store see of them, and which end the daemon before anything is
trusted that may not be on the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from leptond.base.errors import StartRefused
from leptond.store.database.examine import RECOVER

EXIT_IO, EXIT_DATA = 74, 78  # sysexits.h: EX_IOERR, EX_CONFIG
PROBE_BYTES = 256 * 1024


class StoreError(Exception):
    """The database did not carry out a change or a read; nothing of the change is stored. The error of SQLite
    is its cause, and its text the same."""


class StoreUnavailable(StoreError):
    """Not now (no room, a lock, a failing disk): the same call may succeed later."""


class StoreFull(StoreUnavailable):
    """The disk or a quota is full: the same call succeeds once there is room."""


class StoreConflict(StoreError):
    """The schema forbids the change (a constraint or a trigger): the same call fails again."""


def store_error(error: sqlite3.Error) -> StoreError:
    """The error that callers of the store get for `error`, with `error` as its cause."""
    kind = StoreError
    if isinstance(error, sqlite3.OperationalError):
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        kind = StoreFull if full else StoreUnavailable
    elif isinstance(error, sqlite3.IntegrityError):
        kind = StoreConflict
    made = kind(str(error))
    made.__cause__ = error
    return made


@contextlib.contextmanager
def store_errors() -> Iterator[None]:
    """Raise what SQLite raises within the block as StoreError."""
    try:
        yield
    except sqlite3.Error as error:
        raise store_error(error) from error


class StorageFault(StrEnum):
    """Failures of the storage below the database."""

    NONE = "none"
    """Of the statement, not of the storage."""
    FULL = "full"
    """There was no room. The transaction is undone, and may be tried again."""
    IO = "io"
    """The disk failed. After a sync that failed the kernel may have dropped what it could not write, and a
    second sync would not tell: nothing that this process believes about the file can be trusted."""
    DAMAGED = "damaged"
    """The file is not what SQLite left."""


def storage_fault(error: BaseException, directory: Path) -> StorageFault:
    """The fault of the storage in `directory` that `error` reports."""
    code = getattr(error, "sqlite_errorcode", None)
    if not isinstance(error, sqlite3.Error) or code is None:
        return StorageFault.NONE
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return StorageFault.FULL
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StorageFault.DAMAGED
        case sqlite3.SQLITE_IOERR:
            if code in (sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE) and no_room(directory):
                return StorageFault.FULL  # a quota, or no room for the shared index of the log
            return StorageFault.IO
    return StorageFault.NONE


def no_room(directory: Path) -> bool:
    """Return True if a small file cannot be written in `directory` because the disk or a quota is full."""
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
    """The refusal that the daemon has to end with because of `error`; None when it can go on."""
    match storage_fault(error, path.parent):
        case StorageFault.IO:
            return StartRefused(
                f"the disk under {path} failed: {error}. Nothing was answered that is not stored, and jobs "
                "that run go on. Look at the disk (kernel log), then start leptond again.",
                EXIT_IO,
            )
        case StorageFault.DAMAGED:
            return StartRefused(
                f"{path} is damaged: {error}. {RECOVER}.",
                EXIT_DATA,
            )
    return None
