"""The warm side of a command that runs as its submitter: a process of that account, forked from its warm
process, in which the command is forked and by which its end is passed on to the shim.

The shim is root's and has nothing of the account in its memory, so it cannot be forked from the warm
process, and cannot be the parent of what is. This process is the parent in its place. What the shim must not
leave to the account (the record, the limit, the kill) it keeps: the attempt's cgroup holds all processes.

The connection with the shim is descriptor 3, as the gate is of a shim. A message is a line of JSON:

- to here: ``{"launch": ...}`` with the descriptor of the output, ``{"go": ENV, "cpus": ...}``;
- to the shim: ``{"forked": PID}``, then ``{"started": MODE}`` or ``{"failed": [ERRNO, TEXT]}``, then
  ``{"ended": PID, "status": ..., "cpu_s": ..., "rss_bytes": ...}`` of each process that has ended here. End
  of file: none is left.
"""

from __future__ import annotations

import array
import json
import os
import select
import socket

from leptond.engines import protocol
from leptond.engines.shim.command import Command, ExecFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MOST_BYTES = 1 << 20
"""More than the longest launch."""


class Gone(Exception):
    """The other side has closed the connection, or says what it may not."""


class Lines:
    """A connection whose messages are lines of JSON."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.descriptors: list[int] = []
        """Those that have come."""
        self._data = b""

    def send(self, message: dict[str, Any], *descriptors: int) -> None:
        """Send a message. Raises OSError."""
        data = json.dumps(message).encode() + b"\n"
        if descriptors:
            sent = socket.send_fds(self.connection, [data], list(descriptors))
            data = data[sent:]
        self.connection.sendall(data)

    def receive(self) -> dict[str, Any]:
        """Wait for the next message, for as long as the connection's timeout allows. Raises Gone and
        OSError."""
        while b"\n" not in self._data:
            self.read()
        message = self.next()
        if message is None:
            raise Gone
        return message

    def next(self) -> dict[str, Any] | None:
        """Return the next message that has been read; None when there is none. Raises Gone."""
        line, mark, rest = self._data.partition(b"\n")
        if not mark:
            return None
        self._data = rest
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise Gone from None
        if not isinstance(message, dict):
            raise Gone
        return message

    def read(self) -> None:
        """Read what has come. Raises Gone and OSError."""
        space = socket.CMSG_SPACE(4)
        data, extra, _, _ = self.connection.recvmsg(65536, space, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                self.descriptors.extend(fds)
        self._data += data
        if not data or len(self._data) > MOST_BYTES:
            raise Gone


def run(wake: int, cold_reason: Callable[[dict[str, Any]], str] | None) -> None:
    """Fork the command of the launch that comes, start it when the shim says so, and report until nothing is
    left. `wake`: where signals are heard of. Raises RunHere in the process of a command that runs there."""
    lines = Lines(socket.socket(fileno=protocol.GATE_FD))
    try:
        launch = lines.receive()["launch"]
        command = Command(launch, lines.descriptors[0], cold_reason)
        command.fork()
        lines.send({"forked": command.pid})
        go = lines.receive()
        try:
            command.start(go["go"], go["cpus"])
        except ExecFailed as failure:
            lines.send({"failed": [failure.number, failure.text]})
            return
        lines.send({"started": command.mode})
    except (Gone, OSError, KeyError, IndexError):
        return  # the shim has gone, or does without it: what was forked ends at the end of its pipe
    _report(lines, wake)


def _report(lines: Lines, wake: int) -> None:
    """Collect what ends, and pass it on for as long as somebody hears it."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            poll.poll(1000)
            try:
                os.read(wake, 4096)
            except BlockingIOError:
                pass
            continue
        ended = {
            "ended": pid,
            "status": status,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "rss_bytes": usage.ru_maxrss * 1024,
        }
        try:
            lines.send(ended)
        except OSError:
            pass  # the shim has gone; what is left here is ended by the daemon
