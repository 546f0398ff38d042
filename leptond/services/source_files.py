"""The files that jobs name, as they are on the disk. Everything here may wait for a disk."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import msgspec

from leptond.core.jobs import sources
from leptond.core.jobs.sources import SourceFile

HEAD_BYTES = 65536
"""How much of a script is read for a warning."""


def look_at(path: str, before: SourceFile | None = None) -> SourceFile | None:
    """Return a regular file as it is now; None where there is none that can be looked at. It is not read when
    it looks as it did `before`."""
    try:
        if not Path(path).is_file():  # opening a device may do something
            return None
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        seen = os.fstat(fd)
        if not stat.S_ISREG(seen.st_mode):
            return None
        now = SourceFile(
            path=path, size=seen.st_size, modified_ns=seen.st_mtime_ns, status_ns=seen.st_ctime_ns
        )
        if before is not None and sources.looks_same(before, now):
            return before
        if seen.st_size > sources.MAX_HASHED_BYTES:
            return now
        with os.fdopen(os.dup(fd), "rb") as file:
            digest = hashlib.sha256(file.read(sources.MAX_HASHED_BYTES + 1)).hexdigest()
        return msgspec.structs.replace(now, sha256=digest)
    except OSError:
        return None
    finally:
        os.close(fd)


def head_of(path: Path) -> str:
    """Return the first HEAD_BYTES of a regular file as text; nothing of anything else, or of one that this
    account may not read."""
    try:
        # a FIFO would make an open for reading wait for a writer
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return os.read(fd, HEAD_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
