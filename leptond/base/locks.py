"""One daemon a state directory, one a queue (a copied directory holds the same queue), one a GPU: locks that
end with the process that holds them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import structlog

from leptond.base.errors import StartRefused
from leptond.base.paths import make_directory

log = structlog.get_logger("leptond.locks")

LOCK = "leptond.lock"

MACHINE_DIRS = (Path("/run/lock"), Path("/dev/shm"))
"""Where locks that count on the whole machine may be: the first that everybody may write to. It is chosen by
its mode, not by what we may do, so that daemons of all users choose the same."""


class StateLock:
    """The lock of a state directory. Its file descriptor is close-on-exec and passed to nobody: a job
    that inherited it would keep a crashed daemon from coming back."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / LOCK
        self._fd = -1

    def take(self) -> None:
        """Raises StartRefused: 75, naming the holder's pid, when another daemon has it; 74 when the disk does
        not give it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(self._file, flags, 0o600)
        except OSError as error:
            raise StartRefused(f"the lock of the state directory cannot be opened: {error}", 74) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # between its lock and its first write the holder's number is not in the file, or another's is
            pid = _flock_holder(self._fd) or os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            self._fd = -1
            raise StartRefused(
                f"another leptond (pid {pid or 'unknown'}) already uses {self._file.parent}. "
                "Stop it first, or give this one its own --state-dir.",
                75,
            ) from None
        with contextlib.suppress(OSError):  # the number is for people; the lock holds without it
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets the directory go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class LockBusy(Exception):
    """Somebody else has the lock; `pid` is who (None: not to be seen from here)."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"pid {pid}" if pid is not None else "another process")
        self.pid = pid


class MachineLocks:
    """Locks by name that count on this machine (in this container). They are files in a directory that all
    users share, so they are opened without a wish to write, and their content means nothing."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory if directory is not None else _machine_dir()
        self._held: dict[str, int] = {}

    def take(self, name: str) -> None:
        """Raises LockBusy. Where no such lock can be had it is done without, and said."""
        if name in self._held:
            return
        if self._directory is None:
            log.warning("this machine has no directory for locks; nothing keeps a second leptond away")
            return
        path = self._path(name)
        try:
            fd = _open_shared(path)
            while not self._locked(fd, path):
                os.close(fd)
                fd = _open_shared(path)
        except OSError as error:
            log.warning("cannot lock; nothing keeps a second leptond away", file=str(path), error=str(error))
            return
        self._held[name] = fd

    @staticmethod
    def _locked(fd: int, path: Path) -> bool:
        """Takes the lock; False when its last holder has removed the file meanwhile, so that others would
        not meet us there. Raises LockBusy."""
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
        """Lets all of them go. A file is removed while its lock is held: who has opened it before looks once
        more whether it is still there (only its owner can remove it, and after a kill it stays)."""
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
    """The file, made if it is not there. In a shared directory O_CREAT on somebody else's file is refused
    (fs.protected_regular), and what is there already may be anything."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)


def _flock_holder(fd: int) -> int | None:
    """Whose lock is on this file, from /proc/locks."""
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
    """The lock, for the length of a block. Raises StartRefused."""
    holder = StateLock(state_dir)
    holder.take()
    try:
        yield
    finally:
        holder.release()


@contextlib.contextmanager
def machine_locks(lineage: str, state_dir: Path) -> Iterator[MachineLocks]:
    """The locks of a queue, whose copies share its `lineage`, for the length of a block. Raises StartRefused
    (75) when another daemon runs the same queue: a copy of its state directory would run its jobs a second
    time."""
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
    """Raises StartRefused (78) when the database has a second name: SQLite keeps its log beside the name, so
    two programs that open it by two names damage it."""
    with contextlib.suppress(FileNotFoundError):
        if database.stat().st_nlink > 1:
            raise StartRefused(
                f"{database} has a second name (a hard link), by which another program could damage it. "
                "Remove the other name, or begin with an empty --state-dir.",
                78,
            )


def prepare_state_dir(state_dir: Path) -> None:
    """Makes the state directory, private, and checks that it is. Raises StartRefused (78)."""
    try:
        make_directory(state_dir, 0o700)
        seen = state_dir.stat()
    except OSError as error:
        raise StartRefused(f"the state directory {state_dir} cannot be used: {error}", 78) from None
    if not state_dir.is_dir() or seen.st_uid != os.geteuid():
        raise StartRefused(
            f"the state directory {state_dir} belongs to somebody else (uid {seen.st_uid})", 78
        )
    if seen.st_mode & 0o022:
        raise StartRefused(
            f"the state directory {state_dir} can be written by others; run: chmod 700 {state_dir}", 78
        )
