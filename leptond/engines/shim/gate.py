"""The shim's end of the gate."""

from __future__ import annotations

import array
import os
import select
import socket

from leptond.engines import protocol

_PART = 65536
_MOST_DESCRIPTORS = 8
_SPACE = socket.CMSG_SPACE(_MOST_DESCRIPTORS * array.array("i").itemsize)

_unread = b""
_descriptors: list[int] = []
_held_back: list[bytes] = []
_ended = False


def send(word: str, text: object = "") -> bool:
    """Send a message to the daemon, after those that were held back; False when it is gone."""
    data = b"".join((*_held_back, protocol.message(word, text)))
    _held_back.clear()
    try:
        os.write(protocol.GATE_FD, data)
    except OSError:
        return False
    return True


def hold_back(word: str, text: object = "") -> None:
    """Send a message together with the next one."""
    _held_back.append(protocol.message(word, text))


def receive() -> tuple[str, str, list[int]]:
    """Wait for the daemon's next message: its word, its text, and the descriptors that came with it. Empty at
    the end of the connection."""
    while b"\n" not in _unread and _read():
        pass
    return _next()


def receive_now() -> tuple[str, str, list[int]] | None:
    """Return the daemon's next message as :meth:`receive` does; None if none is there now."""
    while b"\n" not in _unread and not _ended:
        if not _is_readable(0.0):
            return None
        _read()
    return _next()


def end_acknowledged_within(limit_s: float) -> bool:
    """Return True if the daemon acknowledges within `limit_s` that it has recorded the end. What it said
    before it knew of the end is of no use any more."""
    while True:
        while b"\n" not in _unread and not _ended:
            if not _is_readable(limit_s):
                return False
            _read()
        word, _, descriptors = _next()
        close_all(descriptors)
        if word in ("", protocol.BOOKED):
            return word != ""


def close_all(descriptors: list[int]) -> None:
    """Close these descriptors."""
    for fd in descriptors:
        os.close(fd)


def _next() -> tuple[str, str, list[int]]:
    global _unread
    line, mark, _unread = _unread.partition(b"\n")
    word, text = protocol.split(line + mark)
    count = protocol.DESCRIPTORS.get(word, 0)
    taken = _descriptors[:count]
    del _descriptors[:count]
    if len(taken) < count:  # the table of descriptors is full: as if it had not been said
        close_all(taken)
        return protocol.BEFORE, "", []
    return word, text, taken


def _is_readable(limit_s: float) -> bool:
    poll = select.poll()
    poll.register(protocol.GATE_FD, select.POLLIN)
    return bool(poll.poll(limit_s * 1000))


def _read() -> bool:
    """Read what has come; False at the end of the connection."""
    global _unread, _ended
    gate = socket.socket(fileno=os.dup(protocol.GATE_FD))
    try:
        data, ancillary, _, _ = gate.recvmsg(_PART, _SPACE, socket.MSG_CMSG_CLOEXEC)
    except OSError:
        data, ancillary = b"", []
    finally:
        gate.close()
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds = array.array("i")
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
            _descriptors.extend(fds)
    _ended = _ended or not data
    _unread += data
    return not _ended
