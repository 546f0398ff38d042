"""Changes of names in directories, told by the kernel (inotify), so that nobody has to look for them."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

_GONE = 0x40 | 0x80 | 0x200 | 0x400 | 0x800
"""IN_MOVED_FROM, IN_MOVED_TO, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF."""
_FLAGS = 0x01000000  # IN_ONLYDIR


class DirectoryWatch:
    """A descriptor that becomes readable when a name in one of the watched directories is removed or renamed,
    or such a directory is. Raises OSError where the kernel has none to give."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def watch(self, directories: Iterable[Path]) -> None:
        """Watch these directories too; those watched already stay. Raises OSError."""
        for directory in directories:
            if self._libc.inotify_add_watch(self.fd, os.fsencode(directory), _GONE | _FLAGS) < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(directory))

    def clear(self) -> None:
        """Read what has happened, so that the descriptor waits for what happens next."""
        try:
            while os.read(self.fd, 4096):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Watch nothing any more."""
        os.close(self.fd)
