"""leptond from Python: :class:`Client` for scripts and notebooks, :class:`AsyncClient` for asyncio programs.

>>> from leptond import Client                                             # doctest: +SKIP
>>> with Client() as lept:                                                 # doctest: +SKIP
...     job = lept.submit(["python", "train.py"], gpus=1, time_limit_s=7200)
...     for text in lept.logs(job.id, follow=True):
...         print(text, end="")
...     print(lept.wait(job.id).state)

Both find the daemon as leptonctl does (``host=``, LEPTOND_HOST, the user's socket, the machine's), answer
with the types of :mod:`leptond.schema`, and raise :class:`leptond.client.ClientError`: ``ApiError`` with the
daemon's own message, ``Unreachable``, ``Interrupted``. Their methods are declared once, in
:class:`leptond.client.methods.Methods`; here is how each client carries a request out."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from leptond.client.errors import ApiError
from leptond.client.methods import Methods
from leptond.client.request import AsyncRunner, LongPoll, Many, One, Pages, Request, Stream, SyncRunner
from leptond.client.server_events import ServerEvent, read_events
from leptond.client.target import Interrupted, Unreachable, find_target, find_token
from leptond.client.transport import PATIENCE_S, RESTART_S, Transport

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

WAIT_S = 30.0
"""Seconds that one request of a long poll lets the daemon wait."""

RECONNECT_S = 60.0
"""Seconds for which a stream or a long poll of the AsyncClient tries to find the daemon again."""

RECONNECT_EVERY_S = 0.5


class Client(Methods, SyncRunner):
    """A client for one thread. Use it in a ``with``, or :meth:`close` it. `patience_s`: seconds for which a
    request waits for a daemon that is not there; without it such a request fails at once."""

    def __init__(self, host: str | None = None, *, patience_s: float = 0.0) -> None:
        self._transport = Transport.find(host)
        self._patience_s = patience_s

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _run(self, one: One[T]) -> T:
        if isinstance(one, LongPoll):
            return self._poll(one)
        return self._send(one, max(RESTART_S, self._patience_s), persistent=self._patience_s > 0)

    def _poll(self, poll: LongPoll[T]) -> T:
        until = None if poll.timeout_s is None else monotonic() + poll.timeout_s
        while True:
            left = WAIT_S if until is None else min(WAIT_S, max(0.0, until - monotonic()))
            answer = self._send(poll.request(left), PATIENCE_S, persistent=True)
            if poll.done(answer):
                return answer
            if until is not None and monotonic() >= until:
                raise TimeoutError(poll.late(answer))

    def _iterate(self, many: Many[T]) -> Iterator[T]:
        if isinstance(many, Request):
            yield self._run(many)
        elif isinstance(many, Pages):
            cursor = None
            while True:
                page = self._run(many.request(cursor))
                yield from page.items
                cursor = page.next_cursor
                if cursor is None:
                    return
        else:
            for event in self._transport.follow(many.path, many.query):
                item = many.read(event)
                if item is not None:
                    yield item

    def _send(self, request: Request[T], patience_s: float, *, persistent: bool) -> T:
        reply = self._transport.request(
            request.method,
            request.path,
            query=request.query,
            body=request.body,
            headers=request.headers,
            wait_s=request.wait_s,
            patience_s=patience_s,
            persistent=persistent,
        )
        return request.read(reply.body)


class AsyncClient(Methods, AsyncRunner):
    """A client for asyncio: ``async with AsyncClient() as lept: ...``. It has the methods of
    :class:`Client`."""

    def __init__(self, host: str | None = None) -> None:
        self._target = find_target(host, os.environ)
        self._token = find_token(os.environ) if self._target.path is None else None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _run(self, one: One[T]) -> T:
        if isinstance(one, LongPoll):
            return await self._poll(one)
        try:
            return await self._send(one)
        except Interrupted:
            if not one.has_key:
                raise
            return await self._send(one)

    async def _poll(self, poll: LongPoll[T]) -> T:
        async with asyncio.timeout(poll.timeout_s):
            lost_s = 0.0
            while True:
                try:
                    answer = await self._send(poll.request(WAIT_S))
                except (Unreachable, Interrupted):
                    if lost_s >= RECONNECT_S:
                        raise
                    lost_s += RECONNECT_EVERY_S
                    await asyncio.sleep(RECONNECT_EVERY_S)
                    continue
                lost_s = 0.0
                if poll.done(answer):
                    return answer

    async def _iterate(self, many: Many[T]) -> AsyncIterator[T]:
        if isinstance(many, Request):
            yield await self._run(many)
        elif isinstance(many, Pages):
            cursor = None
            while True:
                page = await self._run(many.request(cursor))
                for item in page.items:
                    yield item
                cursor = page.next_cursor
                if cursor is None:
                    return
        else:
            async for event in self._follow(many):
                item = many.read(event)
                if item is not None:
                    yield item

    async def _send(self, request: Request[T]) -> T:
        async with self._opened(
            request.method, request.path, request.query, request.headers, request.body
        ) as response:
            return request.read(await response.read())

    async def _follow(self, stream: Stream[Any]) -> AsyncIterator[ServerEvent]:
        """Server-sent events until one of type ``end``, through breaks of the connection."""
        last_id: str | None = None
        lost_s = 0.0
        while True:
            headers, query = {"Accept": "text/event-stream"}, stream.query
            if last_id is not None:
                headers["Last-Event-ID"] = last_id
                query = {}
            try:
                async with self._opened("GET", stream.path, query, headers) as response:
                    async for event in _events(response):
                        lost_s = 0.0
                        last_id = event.id if event.id is not None else last_id
                        yield event
                        if event.type == "end":
                            return
            except (Unreachable, Interrupted):
                if lost_s >= RECONNECT_S or last_id is None:
                    raise
            lost_s += RECONNECT_EVERY_S
            await asyncio.sleep(RECONNECT_EVERY_S)

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            path = self._target.path
            connector = aiohttp.UnixConnector(str(path)) if path is not None else None
            headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
            self._session = aiohttp.ClientSession(
                base_url="http://leptond" if path is not None else str(self._target),
                connector=connector,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=WAIT_S + 45),
            )
        return self._session

    @contextlib.asynccontextmanager
    async def _opened(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any],
        headers: Mapping[str, str],
        body: Any = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer below 400, its body still to be read. Raises ClientError."""
        import aiohttp

        params = {name: str(value) for name, value in query.items()}
        try:
            async with self._connections().request(
                method, path, params=params, json=body, headers=headers
            ) as response:
                if response.status >= 400:
                    raise ApiError(await _problem(response))
                yield response
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(self._target, str(error)) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Interrupted(self._target, str(error) or type(error).__name__) from None


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[ServerEvent]:
    """The events of one connection."""
    block: list[bytes] = []
    async for line in response.content:
        block.append(line)
        if not line.strip():
            for event in read_events(block):
                yield event
            block = []


async def _problem(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The problem body of an error; one made of the status where the answer has none."""
    data = await response.read()
    with contextlib.suppress(msgspec.DecodeError):
        body = msgspec.json.decode(data)
        if isinstance(body, dict) and "detail" in body:
            return {**body, "status": response.status}
    return {
        "type": "about:blank",
        "title": response.reason or "",
        "status": response.status,
        "detail": str(response.reason),
    }
