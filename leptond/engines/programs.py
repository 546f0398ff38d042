"""The program that a command names: the file, its first line, and the Python that it leads to."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from leptond.core import python_command
from leptond.core.python_command import Command

FIRST_BYTES = 256
"""The kernel reads no more of a first line."""
MOST_KNOWN = 256


class Programs:
    """Looks at programs, and remembers what the files held that have not changed since."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, int, int], bytes]] = {}

    def python_of(self, argv: Sequence[str], env: Mapping[str, str], cwd: str) -> tuple[Command, str] | str:
        """Return the call of Python that a command comes to, and the path of the interpreter; the reason if
        it must start cold."""
        found = python_command.parse(argv, env)
        if isinstance(found, str) and not python_command.is_python(argv[0]):
            path = argv[0] if "/" in argv[0] else shutil.which(argv[0], path=env.get("PATH", ""))
            if path is None or ("/" not in argv[0] and not path.startswith("/")):
                return "its command is not found"
            first_line = self._first_line(str(Path(cwd) / path))
            found = python_command.parse_script(path, first_line, argv[1:], env)
        if isinstance(found, str):
            return found
        python = shutil.which(found.python, path=env.get("PATH", ""))
        if python is None or not python.startswith("/"):
            return "its interpreter is not found"
        return found, python

    def _first_line(self, path: str) -> bytes:
        """Return the first line of a script; nothing of what is not one. A file that is no regular one is not
        opened: that could wait, or do something."""
        try:
            seen = Path(path).stat()
            if not stat.S_ISREG(seen.st_mode):
                return b""
            state = (seen.st_mtime_ns, seen.st_size, seen.st_ino)
            known = self._known.get(path)
            if known is None or known[0] != state:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
                try:
                    line = first_line(os.read(fd, FIRST_BYTES))
                finally:
                    os.close(fd)
                while len(self._known) >= MOST_KNOWN:
                    del self._known[next(iter(self._known))]
                known = self._known[path] = (state, line)
        except OSError:
            return b""
        return known[1]


def first_line(begin: bytes) -> bytes:
    r"""Return the first line of a script that begins so; nothing for another program.

    >>> first_line(b"#!/usr/bin/python3\nimport os"), first_line(b"\x7fELF")
    (b'#!/usr/bin/python3', b'')
    """
    line, newline, _ = begin[:FIRST_BYTES].partition(b"\n")
    whole = newline or len(begin) < FIRST_BYTES
    return line if line.startswith(b"#!") and whole else b""
