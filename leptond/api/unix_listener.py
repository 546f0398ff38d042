"""A Unix socket of the HTTP server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

from leptond.base.unix_sockets import BoundSocket

AT_ONCE = 64
"""Connections that are taken in one turn of the event loop, before those that were taken are read from."""

BACKLOG = 1024
"""Connections that may wait to be taken: a client with a deadline is refused at once when there are more."""


class UnixListener:
    """Listens at `path` with the protocols that `factory` makes. With `group` members of the file's group may
    connect, with `everybody` every account."""

    def __init__(
        self,
        path: Path,
        factory: Callable[[], asyncio.Protocol],
        *,
        group: bool,
        everybody: bool = False,
    ) -> None:
        self.path = path
        self._factory = factory
        self._mode = 0o660 if group else 0o666 if everybody else 0o600
        self._bound: BoundSocket | None = None
        self._server: asyncio.Server | None = None

    async def start(self, *, parents: int) -> None:
        """Start to listen; up to `parents` directories are made. Raises StartRefused."""
        bound = BoundSocket(self.path, socket.SOCK_STREAM, self._mode, parents=parents)
        server = await asyncio.get_running_loop().create_unix_server(
            self._factory, sock=bound.socket, backlog=AT_ONCE
        )
        bound.socket.listen(BACKLOG)  # asyncio takes as many in one turn as it was told to let wait
        self.close()
        self._bound, self._server = bound, server

    def is_there(self) -> bool:
        """Return True if clients find it at its path."""
        return self._bound is not None and self._bound.is_there()

    async def make_again(self) -> None:
        """Listen at the path anew; connections stay. Raises StartRefused."""
        await self.start(parents=1)

    def close(self) -> None:
        """Stop listening; connections stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
