"""The output of an attempt, read while it is being written.

The shim stores it by logical offset: ``output.log`` holds the first bytes, ``output.<offset>.log`` what
begins at that offset. Where the output outgrew its budget, or the disk was full, bytes are missing in the
middle. Only regular files are opened, and no link is followed, neither to a file nor to a directory: they are
the shim's, but a job of the same user could have put something else there.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path

from leptond.attempt_files import layout
from leptond.base import nofollow

_SEGMENT = re.compile(layout.SEGMENT_PATTERN)
TAIL_BLOCK = 64 * 1024


class JobLog:
    """The output of one attempt, in `directory`. A log that is not there yet reads as empty."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def _segments(self) -> list[tuple[int, int, str]]:
        """(offset, size, name) of what is stored, in order."""
        found = []
        with contextlib.suppress(OSError), nofollow.directory(self._directory) as fd:
            for name in os.listdir(fd):  # noqa: PTH208 - by descriptor
                match = _SEGMENT.match(name)
                if match is None and name != layout.OUTPUT:
                    continue
                try:
                    seen = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except OSError:
                    continue  # rotated away since the listing
                if stat.S_ISREG(seen.st_mode):
                    found.append((int(match[1]) if match else 0, seen.st_size, name))
        return sorted(found)

    def is_there(self) -> bool:
        """Return True if any of it is stored, be it empty."""
        return bool(self._segments())

    def size(self) -> int:
        """Return the logical size in bytes: all that was written, kept or not."""
        return max((offset + size for offset, size, _ in self._segments()), default=0)

    def read(self, offset: int, limit: int) -> tuple[bytes, int, int]:
        """Return at most `limit` bytes from `offset` on, out of one segment; the offset to go on from; and
        the number of bytes skipped before the first because they are not kept."""
        for start, size, name in self._segments():
            if offset >= start + size:
                continue
            begin = max(offset, start)
            data = self._read_file(name, begin - start, limit)
            if data is None:
                continue  # rotated away: the next one is later
            return data, begin + len(data), begin - offset
        return b"", offset, 0

    def end(self, limit: int) -> tuple[bytes, float | None]:
        """Return the last bytes, `limit` at most and out of several segments if need be, and when the last
        was written (UTC seconds; None: there is no output). Raises OSError."""
        segments = self._segments()
        if not segments:
            return b"", None
        size = segments[-1][0] + segments[-1][1]
        offset = max(0, size - limit)
        parts: list[bytes] = []
        while offset < size:
            data, offset, skipped = self.read(offset, size - offset)
            if not data:
                break
            if skipped:
                parts.clear()  # what is before a gap is not the end
            parts.append(data)
        with nofollow.directory(self._directory) as fd:
            return b"".join(parts), os.stat(segments[-1][2], dir_fd=fd, follow_symlinks=False).st_mtime

    def tail(self, lines: int) -> int:
        """Return the offset at which the last `lines` lines begin, within what is kept of the end."""
        segments = self._segments()
        if lines <= 0 or not segments:
            return self.size()
        seen = 0
        at = segments[-1][0] + segments[-1][1]
        first = True
        for start, size, name in reversed(segments):
            if start + size < at:
                break  # a gap: what is before it is not the end
            at = start + size
            while at > start:
                begin = max(start, at - TAIL_BLOCK)
                block = self._read_file(name, begin - start, at - begin) or b""
                position = len(block)
                while (position := block.rfind(b"\n", 0, position)) >= 0:
                    if first and position == len(block) - 1:
                        first = False  # the newline that ends the last line
                        continue
                    first = False
                    seen += 1
                    if seen == lines:
                        return begin + position + 1
                first = False
                at = begin
        return at

    def _read_file(self, name: str, offset: int, limit: int) -> bytes | None:
        try:
            with nofollow.directory(self._directory) as fd:
                file = nofollow.open_regular(name, fd)
        except OSError:
            return None
        try:
            return os.pread(file, limit, offset)
        finally:
            os.close(file)
