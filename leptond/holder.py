"""One daemon a state directory: a lock that ends with the process that holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from leptond.errors import StartRefused
from leptond.paths import make_directory

LOCK = "leptond.lock"


class Holder:
    """The lock of a state directory. Its file descriptor is close-on-exec and passed to nobody: a job
    that inherited it would keep a crashed daemon from coming back."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / LOCK
        self._fd = -1

    def take(self) -> None:
        """Raises StartRefused (75), naming the holder's pid, when another daemon has it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._file, flags, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            self._fd = -1
            raise StartRefused(
                f"another leptond (pid {pid}) already uses {self._file.parent}. "
                "Stop it first, or give this one its own --state-dir.",
                75,
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets the directory go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@contextlib.contextmanager
def held(state_dir: Path) -> Iterator[None]:
    """The lock, for the length of a block. Raises StartRefused."""
    holder = Holder(state_dir)
    holder.take()
    try:
        yield
    finally:
        holder.release()


def prepare(state_dir: Path) -> None:
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
