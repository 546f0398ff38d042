"""Snapshots of the database while it is being written.

SQLite's backup API copies from a read-only connection that holds one read transaction: writers go on, a
commit in between does not start the copy again, and what comes out is one moment of the queue. It is copied
in slices, so that the disk is not taken from the jobs for long. While it runs the log cannot be reset, and
so grows by what is committed meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from leptond.base import durable
from leptond.store.database.examine import check
from leptond.store.database.sqlite_errors import store_errors

DIRECTORY = "backups"
SLICE_PAGES = 512
PAUSE_S = 0.002
_NAME = re.compile(r"^leptond-([0-9]{8}T[0-9]{6}Z)(-[a-z0-9-]+)?\.db\Z")


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that the daemon keeps. `taken_at` is UTC seconds."""

    name: str
    bytes: int
    taken_at: float


class Stopped(Exception):
    """The snapshot was given up; nothing of it is left."""


def snapshot(source: Path, target: Path, *, now: float, stop: threading.Event | None = None) -> int:
    """Copy the database at `source` to the new file `target` (0600, one file without a log beside it),
    checks it and syncs it; its size in bytes. Raises OSError, StoreError, Stopped; then there is no
    `target`."""
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    try:
        with store_errors():
            _copy(source, target, now, stop or threading.Event())
        fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
            return os.fstat(fd).st_size
        finally:
            os.close(fd)
    except BaseException:
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{target}{suffix}").unlink(missing_ok=True)
        raise


def _copy(source: Path, target: Path, now: float, stop: threading.Event) -> None:
    def slice_done(status: int, remaining: int, total: int) -> None:
        if stop.is_set():
            raise Stopped
        if remaining:
            time.sleep(PAUSE_S)

    reader = sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, isolation_level=None)
    with (
        contextlib.closing(reader),
        contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the snapshot is taken here
        reader.backup(copy, pages=SLICE_PAGES, progress=slice_done)
        reader.execute("COMMIT")
        copy.execute("PRAGMA journal_mode = DELETE")
        copy.execute("PRAGMA synchronous = FULL")
        # whoever opens it as the queue's database is to know that it is older than the directories may be
        copy.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('snapshot_at', ?)", (repr(now),))
        check(target, copy)


def name_of(now: float, mark: str = "") -> str:
    """The file name of a backup taken at `now`."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"leptond-{stamp}{f'-{mark}' if mark else ''}.db"


def keep(
    state_dir: Path, source: Path, *, now: float, mark: str = "", stop: threading.Event | None = None
) -> Backup:
    """Take a backup into the state directory; it appears there under its name only when it is whole and
    on disk. Raises as :func:`snapshot`."""
    directory = state_dir / DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    aside = directory / f".{os.getpid()}-{threading.get_ident()}.tmp"
    aside.unlink(missing_ok=True)
    size = snapshot(source, aside, now=now, stop=stop)
    name = name_of(now, mark)
    aside.rename(directory / name)
    durable.sync_directory(str(directory))
    return Backup(name=name, bytes=size, taken_at=_taken_at(name))


def kept(state_dir: Path) -> list[Backup]:
    """The backups in the state directory, newest first."""
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(state_dir / DIRECTORY):
            if _NAME.match(entry.name) and entry.is_file(follow_symlinks=False):
                size = entry.stat(follow_symlinks=False).st_size
                found.append(Backup(name=entry.name, bytes=size, taken_at=_taken_at(entry.name)))
    return sorted(found, key=lambda one: (one.taken_at, one.name), reverse=True)


def _taken_at(name: str) -> float:
    match = _NAME.match(name)
    assert match is not None
    return datetime.strptime(match[1], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def forget_old(state_dir: Path, count: int) -> list[str]:
    """Remove all but the newest `count` backups, and what a crash left half made; their names."""
    directory = state_dir / DIRECTORY
    gone = [one.name for one in kept(state_dir)[count:]]
    gone += [path.name for path in directory.glob(".*.tmp*")]
    for name in gone:
        (directory / name).unlink(missing_ok=True)
    return gone
