"""The directory of an attempt, held by its descriptor: it stays the same one when the state directory is
moved, and when the job renames it and puts something else in its place."""

from __future__ import annotations

import os

from leptond.base import durable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
STOP_BYTES = 64 * 1024


class Directory:
    """The directory at `path`, JOBS/JOB/NUMBER (until GO JOBS/.deck/ID). Raises OSError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, _DIRECTORY)

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """Open a file in it; no link is followed. Raises OSError."""
        return os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode, dir_fd=self.fd)

    def move(self, path: str) -> None:
        """Rename it. Raises OSError."""
        os.rename(self.path, path)
        self.path = path

    def texts(self, name: str) -> list[bytes]:
        """Return what files of this name hold: the one in the directory, and the one at its path, where that
        leads elsewhere by now (the state directory was copied, and its first place removed)."""
        found = []
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        for path, dir_fd in ((name, self.fd), (os.path.join(self.path, name), None)):
            try:
                fd = os.open(path, flags, dir_fd=dir_fd)
            except OSError:
                continue
            try:
                found.append(os.read(fd, STOP_BYTES))
            except OSError:
                pass  # a directory, or an empty FIFO
            finally:
                os.close(fd)
        return found

    def sync(self) -> None:
        """Make the names in it durable. Raises OSError."""
        os.fsync(self.fd)

    def sync_way(self) -> None:
        """Make the way to it durable. Raises OSError."""
        for above in ("..", "../.."):
            fd = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def put_in_place(self) -> bool:
        """Where the job has removed or renamed it, take a new one at its path, in which the daemon looks for
        the record, and return True. What stands there and is no directory is removed. Raises OSError."""
        if self._is_in_place():
            return False
        above = os.path.dirname(self.path)
        for path in (above, self.path):
            if os.path.islink(path) or (os.path.lexists(path) and not os.path.isdir(path)):
                os.unlink(path)
        os.makedirs(self.path, 0o750, exist_ok=True)
        parent = os.open(above, _DIRECTORY)
        try:
            fd = os.open(os.path.basename(self.path), _DIRECTORY, dir_fd=parent)
        finally:
            os.close(parent)
        os.close(self.fd)
        self.fd = fd
        return True

    def _is_in_place(self) -> bool:
        above, name = os.path.split(self.path)
        try:
            return os.path.samestat(self._seen(f"../{name}"), os.fstat(self.fd)) and os.path.samestat(
                self._seen(f"../../{os.path.basename(above)}"), self._seen("..")
            )
        except OSError:
            return False

    def _seen(self, path: str) -> Any:
        return os.stat(path, dir_fd=self.fd, follow_symlinks=False)

    def write(self, name: str, text: str, *, sync: bool) -> None:
        """Replace a file whole. Raises OSError."""
        if sync:
            durable.write_durably(self.fd, name, text)
        else:
            durable.write_whole(self.fd, name, text, sync=False)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)
