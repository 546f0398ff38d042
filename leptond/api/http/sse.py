"""Server-sent events: a stream with pings, which ends for a reader that does not read."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from leptond.api.http.guard import harden

PING_S = 15.0
"""Seconds without an event after which a ping is sent."""

BLOCKED_S = 30.0
"""Seconds after which a reader that does not read is dropped."""


class Stream:
    """An open event stream."""

    def __init__(self, response: web.StreamResponse) -> None:
        self.response = response

    async def send(self, event: str, data: Any, *, id: str | int | None = None) -> None:
        """Send one event. Raises ConnectionError if the reader is gone, TimeoutError if it does not read."""
        lines = [f"id: {id}"] if id is not None else []
        lines.append(f"event: {event}")
        # JSON on one line: it holds no raw line ends
        lines.append(f"data: {msgspec.json.encode(data).decode()}")
        await self._write("\n".join(lines) + "\n\n")

    async def ping(self) -> None:
        """Send a comment, so that each end notices when the other is gone."""
        await self._write(": ping\n\n")

    async def _write(self, text: str) -> None:
        async with asyncio.timeout(BLOCKED_S):
            await self.response.write(text.encode())


async def open_stream(request: web.Request) -> Stream:
    """Start the response."""
    response = web.StreamResponse(headers={"X-Accel-Buffering": "no"})
    response.content_type = "text/event-stream"
    harden(response)
    await response.prepare(request)
    return Stream(response)


def last_event_id(request: web.Request) -> str | None:
    """Return the id after which the reader wants to resume, if it sent one."""
    value = request.headers.get("Last-Event-ID", "").strip()
    return value or None
