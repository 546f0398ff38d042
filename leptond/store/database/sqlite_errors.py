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

from leptond.base.errors import EXIT_CONFIG, EXIT_IO, EXIT_LATER, NO_ROOM, StartRefused, start_refused

RECOVER = "Jobs that run go on. Next: `leptond recover --dry-run` shows what can be saved"
PROBE_BYTES = 256 * 1024


class StoreError(Exception):
    """The database did not carry out a change or a read; nothing of the change is stored. The error of SQLite
    is its cause, and its text the same."""

    def refusal(self, path: Path) -> StartRefused:
        """Return the refusal of a start that meets this error of the database at `path`."""
        cause = self.__cause__
        if isinstance(cause, sqlite3.Error):
            return open_refused(path, cause)
        return StartRefused(f"{path} cannot be used now: {self}", EXIT_IO)


class StoreUnavailable(StoreError):
    """Not now (no room, a lock, a failing disk): the same call may succeed later."""


class StoreFull(StoreUnavailable):
    """The disk or a quota is full: the same call succeeds once there is room."""


class StoreConflict(StoreError):
    """The schema forbids the change (a constraint or a trigger): the same call fails again."""


GIVEN = "the job may start at any moment"
"""The words of the triggers of migration 0024."""


class SuccessorGiven(StoreConflict):
    """The change concerns a job that may start without the daemon, or its GPUs: the store has that taken
    back, and tries again."""


def store_error(error: sqlite3.Error) -> StoreError:
    """The error that callers of the store get for `error`, with `error` as its cause."""
    kind = StoreError
    if isinstance(error, sqlite3.OperationalError):
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        kind = StoreFull if full else StoreUnavailable
    elif isinstance(error, sqlite3.IntegrityError):
        kind = SuccessorGiven if str(error) == GIVEN else StoreConflict
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


_OF_NO_ROOM = frozenset(
    {
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_WRITE,
    }
)
"""Errors of I/O after which nothing is lost if the disk is full. After a failed sync it may be."""


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
            if code in _OF_NO_ROOM and no_room(directory):
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
        return error.errno in NO_ROOM or error.errno == errno.EFBIG
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
                EXIT_CONFIG,
            )
    return None


class Damaged(StartRefused):
    """The file cannot be used as it is. It was not changed."""

    def __init__(self, path: Path, what: object) -> None:
        super().__init__(
            f"{path} cannot be used as the queue's database: {what}. It was not changed. {RECOVER}.",
            EXIT_CONFIG,
        )


def open_refused(path: Path, error: sqlite3.Error | OSError) -> StartRefused:
    """The refusal of a start because the database at `path` could not be looked at or opened. An error of I/O
    is no proof of damage: without room it is EXIT_LATER, else EXIT_IO; Damaged (EXIT_CONFIG) is what SQLite
    has read and cannot use."""
    what = f"{path} cannot be opened now"
    if isinstance(error, OSError):
        return start_refused(what, error)
    code = getattr(error, "sqlite_errorcode", None) or 0
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return _without_room(path, error)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED | sqlite3.SQLITE_PROTOCOL:
            return StartRefused(f"{what}: another program has it open ({error})", EXIT_LATER)
        case (
            sqlite3.SQLITE_IOERR
            | sqlite3.SQLITE_CANTOPEN
            | sqlite3.SQLITE_READONLY
            | sqlite3.SQLITE_PERM
            | sqlite3.SQLITE_NOMEM
        ):
            if no_room(path.parent):
                return _without_room(path, error)
            try:
                os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
            except OSError as refused:
                return start_refused(what, refused)
            return StartRefused(
                f"{what}: {error}. Nothing was changed, and jobs that run go on. "
                "Look at the disk (kernel log).",
                EXIT_IO,
            )
    return Damaged(path, error)


def _without_room(path: Path, error: sqlite3.Error) -> StartRefused:
    return StartRefused(f"there is no room to open {path} ({error}). Make room first.", EXIT_LATER)
