"""A program on a real terminal, typed at and read from."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence

from tests.support.daemon import PATIENCE_S

_STEERING = re.compile(rb"\x1b(?:\[[0-9;?=><]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78])")


class Terminal:
    """`say` types, `shows` waits for a text; `out` is all that was written, save what steers a terminal."""

    def __init__(self, words: Sequence[str], env: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.raw = b""
        self.process = subprocess.Popen(
            # the first terminal that the leader of a session opens becomes its own: Ctrl-C arrives there
            ["/bin/sh", "-c", 'exec "$@" <>"$0" >&0 2>&0', os.ttyname(slave), *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={"TERM": "xterm-256color", "LANG": "C.UTF-8", **env},
            start_new_session=True,
        )
        os.close(slave)

    @property
    def out(self) -> str:
        return _STEERING.sub(b"", self.raw).decode("utf-8", "replace")

    def say(self, text: str) -> None:
        os.write(self.master, text.encode())

    def shows(self, text: str, *, after: int = 0) -> str:
        """All output, once `text` is in it (behind the character number `after`)."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.out[after:]:
            left = deadline - time.monotonic()
            assert left > 0, f"it does not show {text!r}: {self.raw[-3000:]!r}"
            assert self._read(left), f"it ended without {text!r}: {self.raw[-3000:]!r}"
        return self.out

    def _read(self, patience_s: float) -> bool:
        if not select.select([self.master], [], [], min(patience_s, 5.0))[0]:
            return True
        try:
            piece = os.read(self.master, 65536)
        except OSError:
            return False
        self.raw += piece
        return bool(piece)

    def end(self) -> int:
        """Reads to the end; the exit code."""
        while self._read(PATIENCE_S):
            pass
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        os.close(self.master)
