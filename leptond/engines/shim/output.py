"""The output of an attempt: its log within a budget, and the marker lines in it."""

from __future__ import annotations

import json
import os
import re
import time

from leptond.attempt_files import layout
from leptond.engines.shim.clock import boot_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHUNK = 256 * 1024
MARK = b"::leptond "
MARK_BYTES = 2048
"""The longest marker line that is read, without its prefix."""
MARK_S = 0.2
"""The shortest time between two messages about marker lines."""
PENDING_BYTES = 4096
"""The most that one message takes; what is more is folded: the last value of each name."""
RETRY_S = 2.0
"""The time until a message that nobody took is sent again."""
LAST_WAIT_S = 0.2
"""The time for which the last message waits for room."""

_LINE_END = re.compile(rb"[\r\n]")
_WORD = re.compile(rb"(?<!\S)([^\s=]+)=(\S+)")
_PLAIN = bytes(byte if 0x20 <= byte < 0x7F or byte in b"\t\n" else 0x3F for byte in range(256))
"""Names and numbers are ASCII; anything else becomes a question mark, so that a message stays small."""


class Log:
    """The output of an attempt within a budget: the head in ``output.log``, and, past half of the budget,
    the tail in segments of a quarter each, named by the offset they begin at; the oldest goes first.
    `directory` is a descriptor; `owner` (uid and gid) is the account that the files are given to."""

    def __init__(self, directory: int, budget: int, owner: tuple[int, int] | None = None) -> None:
        self._directory = directory
        self._owner = owner
        self.segment_limit = max(1, budget // 4)
        self.total = 0
        self.dropped = 0
        self.space = budget // 2
        self.segments: list[tuple[str, int]] = []  # name and stored bytes of the tail, oldest first
        self.fd = self._create(layout.OUTPUT)

    def _create(self, name: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o640, dir_fd=self._directory)
        if self._owner is not None:
            os.fchown(fd, *self._owner)  # a link at the job's output path leads here
            os.fchmod(fd, 0o600)  # its group may be one that many share
        return fd

    def _next_segment(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        while len(self.segments) > 1:
            name, stored = self.segments.pop(0)
            os.unlink(name, dir_fd=self._directory)
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


class MarkerLines:
    """Finds marker lines (``::leptond step=3 loss=1.2``) in a stream of output, however it is cut, and holds
    no more than one of them. A marker line begins where a line does, or, on a line that a progress bar draws
    over (one with a carriage return), anywhere behind that. It ends with a newline, a carriage return or the
    stream. Output without marks costs a search or two through each piece."""

    def __init__(self) -> None:
        self._rest = b""  # what may be the beginning of a marker line
        self._fresh = True  # `_rest` stands at the beginning of a line
        self._drawn = False  # there is a carriage return before `_rest` on its line
        self._skips = False  # in the middle of a marker line that is too long

    def feed(self, data: bytes, *, last: bool = False) -> list[bytes]:
        """The contents of the marker lines that end in `data`, or, at the `last` of the stream, with it."""
        found: list[bytes] = []
        if self._skips:
            end = _LINE_END.search(data)
            if end is None:
                return found
            data, self._skips, self._fresh = data[end.start() :], False, False
        data = self._rest + data
        at = 0
        while (mark := data.find(MARK, at)) >= 0:
            self._move(data, at, mark)
            at = begin = mark + len(MARK)
            if not (self._fresh or self._drawn):
                continue
            end = _LINE_END.search(data, begin, begin + MARK_BYTES + 1)
            if end is not None:
                at = end.start()
                found.append(data[begin:at])
            elif len(data) - begin > MARK_BYTES:
                end = _LINE_END.search(data, begin + MARK_BYTES)
                if end is None:
                    self._rest, self._skips = b"", True
                    return found
                at = end.start()
            elif last:
                found.append(data[begin:])
                at = len(data)
            else:
                self._rest = data[mark:]
                return found
            self._fresh = False
        tail = next((n for n in range(len(MARK) - 1, 0, -1) if data.endswith(MARK[:n])), 0)
        to = max(at, len(data) - tail)
        self._move(data, at, to)
        self._rest = data[to:]
        return found

    def _move(self, data: bytes, at: int, to: int) -> None:
        """Go on from `at` to `to`."""
        newline = data.rfind(b"\n", at, to)
        if newline >= 0:
            self._drawn = False
            at = newline + 1
            self._fresh = at == to
        elif to > at:
            self._fresh = False
        if data.rfind(b"\r", at, to) >= 0:
            self._drawn = True


class Marks:
    """Passes the marker lines of the output on to the daemon's progress channel at `path`, unread, five times
    a second at most, and without holding up the job. Lines between two messages go together, each as it is
    while there is room. While nobody listens they are kept, within the same room."""

    def __init__(self, path: str, attempt_id: str) -> None:
        self.path = path
        self.attempt_id = attempt_id
        self.due: float | None = None
        self._lines = MarkerLines()
        self._pending: list[bytes] = []
        self._size = 0
        self._found_at = 0.0
        self._sent_at = 0.0
        self._over = False

    def scan(self, data: bytes) -> None:
        """Take the next output in."""
        self._take(self._lines.feed(data))

    def finish(self) -> None:
        """Take in that the output is over: its last line may lack a newline."""
        self._over = True
        self._take(self._lines.feed(b"", last=True))

    def _take(self, lines: list[bytes]) -> None:
        if not lines:
            return
        for line in lines:
            if self._size + len(line) + 1 > PENDING_BYTES:
                self._fold()
            self._pending.append(line)
            self._size += len(line) + 1
        self._found_at = time.time()
        if self.due is None:
            self.due = self._sent_at + MARK_S

    def _fold(self) -> None:
        """Make one line of all that is pending, with the last value of each name, in half of the room."""
        values: dict[bytes, bytes] = {}
        for name, value in _WORD.findall(b" ".join(self._pending)):
            values.pop(name, None)
            values[name] = value
        words = [name + b"=" + value for name, value in values.items()]
        self._size = sum(len(word) + 1 for word in words)
        while self._size > PENDING_BYTES - MARK_BYTES - 1:
            self._size -= len(words.pop(0)) + 1
        self._pending = [b" ".join(words)] if words else []

    def send(self) -> None:
        """Send what is pending."""
        self.due = None
        if not self._pending:
            return
        self._sent_at = boot_now()
        text = b"\n".join(self._pending).translate(_PLAIN).decode("ascii")
        body = {"v": 1, "attempt": self.attempt_id, "at": self._found_at, "line": text}
        try:
            import socket  # only jobs that print marks pay for it

            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(LAST_WAIT_S if self._over else 0.0)
                channel.sendto(json.dumps(body).encode(), self.path)
        except OSError:
            self.due = self._sent_at + RETRY_S
            return
        self._pending, self._size = [], 0


class Output:
    """The pipe that the command writes to, and where its content goes. Raises OSError."""

    def __init__(self, directory: int, launch: dict[str, object]) -> None:
        self.fd, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.fd, False)
        submitter: Any = launch.get("submitter")
        owner = (submitter["uid"], submitter["gid"]) if submitter is not None else None
        self.log = Log(directory, int(str(launch["log_max_bytes"])), owner)
        self.marks = Marks(str(launch.get("report_socket", "")), str(launch["attempt_id"]))

    def copy(self, chunks: int) -> bool:
        """Move up to `chunks` chunks into the log; False at the end of the output."""
        for _ in range(chunks):
            try:
                data = os.read(self.fd, CHUNK)
            except BlockingIOError:
                return True
            if not data:
                self.marks.finish()
                return False
            self.log.write(data)
            self.marks.scan(data)
        return True

    def close(self) -> None:
        """Close the shim's end and the log."""
        for fd in (self.fd, self.log.fd):
            if fd >= 0:
                os.close(fd)
