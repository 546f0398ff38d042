"""The daemon's end of a gate, the connection with one shim."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from leptond.engines import protocol


class Gate:
    """The daemon's end of the `connection` with a shim, which must not block."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._data = b""

    async def receive(self) -> tuple[str, str]:
        """Wait for the shim's next message: its word and its text; empty at the end of the connection."""
        loop = asyncio.get_running_loop()
        while b"\n" not in self._data:
            try:
                part = await loop.sock_recv(self.connection, 65536)
            except OSError:
                part = b""
            if not part:
                return "", ""
            self._data += part
        line, _, self._data = self._data.partition(b"\n")
        return protocol.split(line + b"\n")

    def send(self, word: str, text: str = "") -> bool:
        """Send a message; False when the shim is gone. It fits into the buffer of the socket."""
        try:
            self.connection.sendall(protocol.message(word, text))
        except OSError:
            return False
        return True

    def send_descriptors(self, word: str, text: str, descriptors: Sequence[int]) -> bool:
        """Send a message with copies of these descriptors; False when the shim is gone, or its gate is full:
        then nothing of it has been sent."""
        try:
            data = protocol.message(word, text)
            return socket.send_fds(self.connection, [data], descriptors) == len(data)
        except OSError:
            return False

    def close(self) -> None:
        """Shut the gate: end of file for the shim."""
        with contextlib.suppress(OSError):
            self.connection.close()
