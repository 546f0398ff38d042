"""The deadline and the cap on connections that aiohttp lacks."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

HEADER_S = 5.0
"""Seconds that the head of a request may take to arrive."""

MAX_CONNECTIONS = 256
"""Most open connections of a listener."""


class Connection(web.RequestHandler):
    """Connection with a deadline for the head of each request (`header_s` seconds), for which aiohttp would
    wait for ever."""

    def __init__(
        self,
        manager: Any,
        *,
        loop: asyncio.AbstractEventLoop,
        open_ones: set[Any],
        header_s: float = HEADER_S,
        **options: Any,
    ) -> None:
        super().__init__(manager, loop=loop, **options)
        self._header_s = header_s
        self._open_ones = open_ones
        self._deadline: asyncio.TimerHandle | None = None
        self._busy = False
        self._line: asyncio.BaseTransport | None = None
        self._own_loop = loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._line = transport
        if len(self._open_ones) >= MAX_CONNECTIONS:
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
        else:
            self._open_ones.add(self)
            self._arm()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._open_ones.discard(self)
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._busy and self._deadline is None:
            self._arm()  # the first bytes of a further request on a kept connection
        super().data_received(data)

    def request_began(self) -> None:
        """End the deadline, because the head is complete and the request's own limit holds."""
        self._busy = True
        self._disarm()

    def request_ended(self) -> None:
        """Wait for the next request, without a deadline until its first bytes."""
        self._busy = False

    def _arm(self) -> None:
        self._deadline = self._own_loop.call_later(self._header_s, self._too_late)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self._line is not None and not self._busy:
            assert isinstance(self._line, asyncio.Transport)
            self._line.abort()
