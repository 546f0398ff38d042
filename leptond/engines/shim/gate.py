"""The shim's end of the gate."""

from __future__ import annotations

import os
import select

from leptond.engines import protocol


def send(word: str, text: object = "") -> bool:
    """Send a message to the daemon; False when it is gone."""
    try:
        os.write(protocol.GATE_FD, protocol.message(word, text))
    except OSError:
        return False
    return True


def receive() -> tuple[str, str]:
    """Wait for the daemon's next message: its word and its text; empty at the end of the connection."""
    line = b""
    while not line.endswith(b"\n"):
        try:
            part = os.read(protocol.GATE_FD, 65536)
        except ConnectionResetError:
            break
        if not part:
            break
        line += part
    return protocol.split(line)


def end_acknowledged_within(limit_s: float) -> bool:
    """Return True if the daemon acknowledges within `limit_s` that it has recorded the end."""
    poll = select.poll()
    poll.register(protocol.GATE_FD, select.POLLIN)
    if not poll.poll(limit_s * 1000):
        return False
    try:
        return os.read(protocol.GATE_FD, 16) == protocol.message(protocol.BOOKED)
    except OSError:
        return False
