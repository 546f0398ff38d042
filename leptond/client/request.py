"""Requests as values: :class:`Request`, :class:`LongPoll`, :class:`Pages` and :class:`Stream`; and the two
ways of carrying one out, :class:`SyncRunner` and :class:`AsyncRunner`."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from leptond.client.server_events import ServerEvent

T = TypeVar("T")

PAGE = 500
"""Items of a list that one request fetches."""

IDEMPOTENCY_KEY = "Idempotency-Key"


class Request(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One request; `read` makes the value of the answer's body."""

    method: str
    path: str
    read: Callable[[bytes], T]
    query: Mapping[str, Any] = {}
    body: Any = None
    headers: Mapping[str, str] = {}
    wait_s: float = 0.0
    """Seconds that the daemon may wait before it answers."""

    @property
    def has_key(self) -> bool:
        """True if the daemon carries it out once however often it is sent."""
        return IDEMPOTENCY_KEY in self.headers


class LongPoll(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A request that is repeated until its answer is `done`. `request(wait_s)` lets the daemon wait so long;
    after `timeout_s` (None: never) it ends in a TimeoutError that says what `late` makes of the answer."""

    request: Callable[[float], Request[T]]
    done: Callable[[T], bool]
    late: Callable[[T], str]
    timeout_s: float | None = None


class Pages(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A list that comes in pages: `request(cursor)` asks for one, `items` and `next_cursor` are in it."""

    request: Callable[[str | None], Request[Any]]


class Stream(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """Server-sent events; `read` makes an item of one, or None where it holds none."""

    path: str
    query: Mapping[str, Any]
    read: Callable[[ServerEvent], T | None]


One = Request[T] | LongPoll[T]
"""The source of one value."""

Many = Pages[T] | Stream[T] | Request[T]
"""The source of any number of items; that of a request is its answer alone."""


class SyncRunner:
    """Carries requests out and blocks meanwhile."""

    def _run(self, one: One[T]) -> T:
        """The value. Raises ClientError, and TimeoutError for a LongPoll."""
        raise NotImplementedError

    def _iterate(self, many: Many[T]) -> Iterator[T]:
        """The items as they come. Raises ClientError."""
        raise NotImplementedError


class AsyncRunner:
    """Carries requests out under asyncio."""

    async def _run(self, one: One[T]) -> T:
        """The value. Raises ClientError, and TimeoutError for a LongPoll."""
        raise NotImplementedError

    def _iterate(self, many: Many[T]) -> AsyncIterator[T]:
        """The items as they come. Raises ClientError."""
        raise NotImplementedError


def decoded(kind: type[T]) -> Callable[[bytes], T]:
    """A `read` for a JSON body of that type."""
    return functools.partial(msgspec.json.decode, type=kind)
