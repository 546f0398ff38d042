"""The output of an attempt: its log within a budget, and the marker lines in it."""

from __future__ import annotations

import json
import os
import re
import time

from leptond.attempt_files import layout
from leptond.engines.shim.clock import boot_now

CHUNK = 256 * 1024
MARK = b"::leptond "
MARK_LINE = re.compile(rb"^::leptond ([^\n]*)\n", re.MULTILINE)
MARK_S = 0.2
"""The shortest time between two messages about marker lines."""
MARK_BYTES = 2048


class Log:
    """The output of an attempt within a budget: the head in ``output.log``, and, past half of the budget,
    the tail in segments of a quarter each, named by the offset they begin at; the oldest goes first."""

    def __init__(self, directory: str, budget: int) -> None:
        self.directory = directory
        self.segment_limit = max(1, budget // 4)
        self.total = 0
        self.dropped = 0
        self.space = budget // 2
        self.segments: list[tuple[str, int]] = []  # name and stored bytes of the tail, oldest first
        self.fd = self._create(layout.OUTPUT)

    def _create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(os.path.join(self.directory, name), flags, 0o640)

    def _next_segment(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        while len(self.segments) > 1:
            name, stored = self.segments.pop(0)
            os.unlink(os.path.join(self.directory, name))
            self.dropped += stored
        name = layout.segment(self.total)
        self.fd = self._create(name)
        self.segments.append((name, 0))
        self.space = self.segment_limit

    def write(self, data: bytes) -> None:
        """Store `data`, or count it as dropped when the disk does not take it: the job is never held up by
        its own output."""
        while data:
            try:
                if self.space == 0 or self.fd < 0:
                    self._next_segment()
                stored = os.write(self.fd, data[: self.space])
            except OSError:
                # what follows goes to a new segment, so that offsets stay true
                if self.fd >= 0:
                    os.close(self.fd)
                    self.fd = -1
                self.total += len(data)
                self.dropped += len(data)
                return
            self.total += stored
            self.space -= stored
            if self.segments:
                name, before = self.segments[-1]
                self.segments[-1] = (name, before + stored)
            data = data[stored:]


class Marks:
    """Passes marker lines of the output (``::leptond step=3 loss=1.2``) on to the daemon's progress channel,
    unread, five times a second at most, and without ever waiting: lines that pile up go together, and without
    a listener they are dropped. Output without marks costs one search through each chunk."""

    def __init__(self, path: str, attempt_id: str) -> None:
        self.path = path
        self.attempt_id = attempt_id
        self.pending = b""
        self.due: float | None = None
        self.sent_at = 0.0
        self.rest: bytes | None = b""  # a line's beginning that may be a mark; None: in the middle of another

    def scan(self, data: bytes) -> None:
        """Take the next output in."""
        if self.rest is None:
            data = data[data.find(b"\n") + 1 :] if b"\n" in data else b""
            if not data:
                return
            self.rest = b""
        data = self.rest + data
        end = data.rfind(b"\n") + 1
        tail = data[end:]
        ours = len(tail) < MARK_BYTES and tail[: len(MARK)] == MARK[: len(tail)]
        self.rest = tail if ours else None
        if MARK in data:
            lines = MARK_LINE.findall(data, 0, end)
            if lines:
                self.pending = b" ".join([self.pending, *lines])[-MARK_BYTES:]
                self.due = self.sent_at + MARK_S

    def send(self) -> None:
        """Send what is pending."""
        if not self.pending:
            return
        text = self.pending.decode("utf-8", "replace")
        self.pending, self.due, self.sent_at = b"", None, boot_now()
        body = {"v": 1, "attempt": self.attempt_id, "at": time.time(), "line": text}
        try:
            import socket  # only jobs that print marks pay for it

            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
                channel.sendto(json.dumps(body).encode(), self.path)
        except OSError:
            pass


class Output:
    """The pipe that the command writes to, and where its content goes. Raises OSError."""

    def __init__(self, directory: str, launch: dict[str, object]) -> None:
        self.fd, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.fd, False)
        self.log = Log(directory, int(str(launch["log_max_bytes"])))
        self.marks = Marks(str(launch.get("report_socket", "")), str(launch["attempt_id"]))

    def copy(self, chunks: int) -> bool:
        """Move up to `chunks` chunks into the log; False at the end of the output."""
        for _ in range(chunks):
            try:
                data = os.read(self.fd, CHUNK)
            except BlockingIOError:
                return True
            if not data:
                return False
            self.log.write(data)
            self.marks.scan(data)
        return True

    def close(self) -> None:
        """Close the shim's end and the log."""
        for fd in (self.fd, self.log.fd):
            if fd >= 0:
                os.close(fd)
