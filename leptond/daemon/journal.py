"""Lines of the daemon's log as entries of the systemd journal, with fields that journalctl can select by: the
native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL)."""

from __future__ import annotations

import os
import re
import socket
import struct
import sys
from collections.abc import Mapping
from typing import Any

import structlog

SOCKET = "/run/systemd/journal/socket"
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog(3) priorities by structlog's levels."""

_NAME = re.compile(r"[A-Z0-9_]{1,48}")
_LONGEST = 60_000
"""Bytes of a field: a datagram must fit into the socket's buffer."""


def is_journal(environ: Mapping[str, str], fd: int) -> bool:
    """Return True if the service manager has connected `fd` to the journal (JOURNAL_STREAM)."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        stat = os.fstat(fd)
    except OSError:
        return False
    return (device, inode) == (str(stat.st_dev), str(stat.st_ino))


def fields(message: str, event: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a line: MESSAGE, PRIORITY, and every field of the line as LEPTOND_NAME, its event
    as LEPTOND_EVENT.

    >>> fields("{}", {"event": "job.ended", "level": "warning", "job": 7})["LEPTOND_JOB"]
    '7'
    """
    found = {
        "MESSAGE": message,
        "PRIORITY": str(PRIORITIES.get(str(event.get("level")), 6)),
        "SYSLOG_IDENTIFIER": "leptond",
    }
    for name, value in event.items():
        field = name.upper()
        plain = isinstance(value, str | int | float) and not isinstance(value, bool)
        if plain and name not in ("level", "timestamp") and _NAME.fullmatch(field):
            found[f"LEPTOND_{field}"] = str(value)
    return found


def encode(values: Mapping[str, str]) -> bytes:
    """Return a datagram of the journal.

    >>> encode({"MESSAGE": "one", "LEPTOND_JOB": "7"})
    b'MESSAGE=one\\nLEPTOND_JOB=7\\n'
    """
    parts = []
    for name, value in values.items():
        data = value.encode("utf-8", "replace")[:_LONGEST]
        if b"\n" in data:  # its length stands before it
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)


class JournalRenderer:
    """The last processor: sends the line to the journal, made by `render`, and drops it. What the journal
    does not take goes to standard error, which leads there as well."""

    def __init__(self, render: structlog.typing.Processor, address: str = SOCKET) -> None:
        self._render = render
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        # a journal that is stuck must not hold up the loop
        self._socket.setblocking(False)

    def __call__(
        self, logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict
    ) -> str:
        """Send the line. Raises DropEvent, or returns the line for standard error."""
        values = dict(event)
        line = str(self._render(logger, method, event))
        try:
            self._socket.sendto(encode(fields(line, values)), self._address)
        except OSError:
            return line
        raise structlog.DropEvent

    def close(self) -> None:
        """Send nothing more."""
        self._socket.close()


def journal_renderer(render: structlog.typing.Processor) -> structlog.typing.Processor:
    """Return `render`, or, where standard error is the journal, what sends its lines there with fields."""
    return JournalRenderer(render) if is_journal(os.environ, sys.stderr.fileno()) else render
