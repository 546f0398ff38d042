"""Locks that end with the process that holds them: one daemon a state directory, one a queue (a copied
directory holds the same queue), one a GPU."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import structlog

from leptond.base.errors import StartRefused, start_refused
from leptond.base.paths import make_directory

log = structlog.get_logger("leptond.locks")

LOCK = "leptond.lock"

MACHINE_DIRS = (Path("/run/lock"), Path("/dev/shm"))
"""Directories for locks that hold on the whole machine; the first that is world-writable and sticky is used.
It is chosen by its mode, not by this user's rights, so that daemons of all users choose the same."""


class StateLock:
    """The lock of a state directory. Its file descriptor is close-on-exec and never passed on: a
    job that inherited it would keep a crashed daemon from coming back."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / LOCK
        self._fd = -1

    def take(self) -> None:
        """Take the lock. Raises StartRefused: 75, naming the holder's pid, if another daemon has it; as
        :func:`start_refused` if the file cannot be opened."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(self._file, flags, 0o600)
        except OSError as error:
            raise start_refused("the lock of the state directory cannot be opened", error) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # until the holder has written its pid, the file is empty or names an earlier one
            pid = _flock_holder(self._fd) or os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            self._fd = -1
            raise StartRefused(
                f"another leptond (pid {pid or 'unknown'}) already uses {self._file.parent}. "
                "Stop it first, or give this one its own --state-dir.",
                75,
            ) from None
        with contextlib.suppress(OSError):  # the pid is for people; the lock holds without it
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Release the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LockBusy(Exception):
    """Another process has the lock; `pid` is its process id (None: not visible from here)."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"pid {pid}" if pid is not None else "another process")
        self.pid = pid


class MachineLocks:
    """Locks by name that hold on this machine (in this container). They are files in a directory that all
    users share, so they are opened read-only, and their content means nothing."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory if directory is not None else _machine_dir()
        self._held: dict[str, int] = {}

    def take(self, name: str) -> None:
        """Take a lock. Raises LockBusy. Where locks are not possible, log a warning and go on without."""
        if name in self._held:
            return
        if self._directory is None:
            log.warning("locks.unavailable", error="no directory for locks")
            return
        path = self._path(name)
        try:
            fd = _open_shared(path)
            while not self._locked(fd, path):
                os.close(fd)
                fd = _open_shared(path)
        except OSError as error:
            log.warning("locks.unavailable", file=str(path), error=str(error))
            return
        self._held[name] = fd

    @staticmethod
    def _locked(fd: int, path: Path) -> bool:
        """Take the lock. Return False if its last holder has removed the file meanwhile, so that others would
        lock a new one. Raises LockBusy."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _flock_holder(fd)
            os.close(fd)
            raise LockBusy(holder) from None
        try:
            return os.path.samestat(os.fstat(fd), path.lstat())
        except FileNotFoundError:
            return False

    def _path(self, name: str) -> Path:
        assert self._directory is not None
        return self._directory / f"leptond-{name}.lock"

    def release(self) -> None:
        """Release all locks. A file is removed while its lock is held; a process that opened it before checks
        again whether it is still there. Only its owner can remove it, and after a kill it stays."""
        for name, fd in self._held.items():
            with contextlib.suppress(OSError):
                self._path(name).unlink()
            os.close(fd)
        self._held.clear()


def _machine_dir() -> Path | None:
    for path in MACHINE_DIRS:
        with contextlib.suppress(OSError):
            if stat.S_IMODE(path.stat().st_mode) == 0o1777:
                return path
    return None


def _open_shared(path: Path) -> int:
    """Open the file, and create it if it is missing. In a shared directory O_CREAT on the file of another
    user is refused (fs.protected_regular), and what is there already may be anything."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)


def _flock_holder(fd: int) -> int | None:
    """Return the pid that holds a lock on this file, from /proc/locks."""
    seen = os.fstat(fd)
    mark = f"{os.major(seen.st_dev):02x}:{os.minor(seen.st_dev):02x}:{seen.st_ino}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if "FLOCK" in fields and mark in fields and fields[4].isdigit() and int(fields[4]) > 0:
                return int(fields[4])
    return None


@contextlib.contextmanager
def state_lock(state_dir: Path) -> Iterator[None]:
    """Hold the lock of a state directory for the length of a block. Raises StartRefused."""
    holder = StateLock(state_dir)
    holder.take()
    try:
        yield
    finally:
        holder.release()


@contextlib.contextmanager
def machine_locks(lineage: str, state_dir: Path) -> Iterator[MachineLocks]:
    """Hold the locks of a queue for the length of a block; copies of a queue share its `lineage`. Raises
    StartRefused (75) if another daemon runs the same queue: a copy of its state directory would run its jobs
    a second time."""
    locks = MachineLocks()
    try:
        try:
            locks.take(f"queue-{lineage}")
        except LockBusy as busy:
            raise StartRefused(
                f"another leptond (pid {busy.pid or 'unknown'}) already runs the queue of which {state_dir} "
                "holds a copy; both would run its jobs. Stop it first, or begin with an empty --state-dir.",
                75,
            ) from None
        yield locks
    finally:
        locks.release()


def check_hard_links(database: Path) -> None:
    """Raise StartRefused (78) if the database has a second name: SQLite keeps its log beside the name, so two
    programs that open it by two names damage it."""
    with contextlib.suppress(FileNotFoundError):
        if database.stat().st_nlink > 1:
            raise StartRefused(
                f"{database} has a second name (a hard link), by which another program could damage it. "
                "Remove the other name, or begin with an empty --state-dir.",
                78,
            )


def prepare_state_dir(state_dir: Path) -> None:
    """Make the state directory, private to its owner, and check that it is. Raises StartRefused."""
    try:
        make_directory(state_dir, 0o700)
        seen = state_dir.stat()
    except OSError as error:
        raise start_refused(f"the state directory {state_dir} cannot be used", error) from None
    if not state_dir.is_dir() or seen.st_uid != os.geteuid():
        raise StartRefused(
            f"the state directory {state_dir} belongs to somebody else (uid {seen.st_uid})", 78
        )
    if seen.st_mode & 0o022:
        raise StartRefused(
            f"the state directory {state_dir} can be written by others; run: chmod 700 {state_dir}", 78
        )
