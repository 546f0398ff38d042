"""A Unix socket of the HTTP server."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from leptond.base.unix_sockets import BoundSocket

AT_ONCE = 64
"""Connections that are taken in one turn of the event loop, before those that were taken are read from."""

BACKLOG = 1024
"""Connections that may wait to be taken: a client with a deadline is refused at once when there are more."""


class UnixListener:
    """Listens at `path` with the protocols that `factory` makes. With `group` members of the file's group may
    connect, with `everybody` every account. `inherited`: the service manager's socket at this path, which is
    used until it is gone from there, and is left there at the end."""

    def __init__(
        self,
        path: Path,
        factory: Callable[[], asyncio.Protocol],
        *,
        group: bool,
        everybody: bool = False,
        inherited: socket.socket | None = None,
    ) -> None:
        self.path = path
        self._factory = factory
        self._mode = 0o660 if group else 0o666 if everybody else 0o600
        self._inherited = inherited
        self._bound: BoundSocket | None = None
        self._server: asyncio.Server | None = None

    async def start(self, *, parents: int) -> None:
        """Start to listen; up to `parents` directories are made. Raises StartRefused."""
        inherited, self._inherited = self._inherited, None
        bound = BoundSocket(self.path, socket.SOCK_STREAM, self._mode, parents=parents, inherited=inherited)
        if inherited is not None and sys.version_info >= (3, 13):
            server = await asyncio.get_running_loop().create_unix_server(
                self._factory, sock=bound.socket, backlog=AT_ONCE, cleanup_socket=False
            )
        else:
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
