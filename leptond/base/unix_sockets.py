"""Unix sockets that the daemon listens at: made, found to be gone, and made again."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

from leptond.base.errors import EXIT_CONFIG, EXIT_LATER, StartRefused, start_refused
from leptond.base.socket_places import LONGEST

ABOVE = 16
"""The most directories above a socket that are made."""


def prepare_directory(path: Path, *, parents: int) -> None:
    """Make the directory of the socket `path`, and missing ones above it, `parents` in all. Raises
    StartRefused where no socket can be made there."""
    if len(os.fsencode(path)) > LONGEST:
        raise StartRefused(f"the socket's path is too long for Unix ({LONGEST} bytes): {path}", EXIT_CONFIG)
    try:
        _make_above(path, parents)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent))
    except OSError as error:
        raise start_refused(f"cannot listen at {path}", error) from None


class BoundSocket:
    """A socket bound at `path`, open with `mode`; `kind` is SOCK_STREAM or SOCK_DGRAM (it is told who sends).
    Directories above it are made, up to `parents` of them. With `inherited`, a socket that was bound there by
    another program, nothing is made: its mode is that program's. Raises StartRefused."""

    def __init__(
        self, path: Path, kind: int, mode: int, *, parents: int, inherited: socket.socket | None = None
    ) -> None:
        self.path = path
        if inherited is not None:
            self.socket = inherited
            try:
                self._seen = path.lstat()
            except OSError as error:
                raise start_refused(f"cannot listen at {path}", error) from None
            return
        prepare_directory(path, parents=parents)
        try:
            _remove_stale(path, kind)
            self.socket = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            if kind == socket.SOCK_DGRAM:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            mask = os.umask(0o777 & ~mode)
            try:
                self.socket.bind(str(path))
            except OSError:
                self.socket.close()
                raise
            finally:
                os.umask(mask)
            self._seen = path.lstat()
        except OSError as error:
            raise start_refused(f"cannot listen at {path}", error) from None

    def is_there(self) -> bool:
        """Return True if clients find this socket at its path."""
        try:
            return os.path.samestat(self.path.lstat(), self._seen)
        except OSError:
            return False


def _make_above(path: Path, parents: int) -> None:
    missing = []
    for directory in list(path.parents)[:parents]:
        if directory.is_dir():
            break
        missing.append(directory)
    for directory in reversed(missing):
        directory.mkdir(mode=0o755, exist_ok=True)


def _remove_stale(path: Path, kind: int) -> None:
    """Remove a socket on which no program answers. Raises StartRefused (75) if one does, 78 if it is no
    socket; OSError."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StartRefused(f"{path} is there and is not a socket; move it away", EXIT_CONFIG)
    except FileNotFoundError:
        return
    if kind == socket.SOCK_STREAM:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(path))
            except (ConnectionRefusedError, FileNotFoundError):
                pass
            except OSError:
                raise _answers(path) from None
            else:
                raise _answers(path)
    # a datagram socket of an earlier daemon: the lock of the state directory says it is gone
    path.unlink(missing_ok=True)


def _answers(path: Path) -> StartRefused:
    return StartRefused(f"another program answers at {path}; stop it, or choose another --socket", EXIT_LATER)
