"""Routes as values: the same table makes the handlers and the OpenAPI document.

A handler is ``async def handler(call: Call) -> Answer``: its body and query are decoded before it runs, and
what it returns is encoded after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from leptond.api.http.context import CONTEXT, Context
from leptond.api.http.decoding import MAX_BATCH_VALUES, MAX_VALUES, decode_body, decode_query
from leptond.api.http.identity import RIGHTS
from leptond.base.errors import BadRequest, Forbidden, Invalid, TooLarge, WrongMediaType
from leptond.core.access.caller import Caller
from leptond.core.access.policies import Policy, fits_method
from leptond.core.access.rights import Rights

LARGE_BYTES = 64 * 1024
"""A larger body is decoded off the event loop."""


@dataclass(frozen=True)
class Reply:
    """An answer with a status or headers of its own."""

    value: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A request as its handler sees it. `body` and `query` are instances of the route's types."""

    request: web.Request
    context: Context
    rights: Rights
    body: Any
    query: Any
    raw: bytes

    @property
    def caller(self) -> Caller:
        """The caller, as the kernel or its token identifies it."""
        return self.rights.caller

    def path(self, name: str) -> str:
        """Return a parameter of the path."""
        return self.request.match_info[name]


Handler = Callable[[Call], Awaitable[Any]]


@dataclass(frozen=True)
class Route:
    """One method of one path. `policy`: what it needs of its caller; there is no route without one.

    `also` are further statuses of a good answer, `errors` the statuses of problems that are its own,
    `headers` the request headers that it heeds (name and meaning). `media` is the answer's type where it is
    not JSON; `streams`: the answer goes on until the client leaves; `large_body`: the limit of a batch holds;
    `decode` reads the body, as :func:`decode_body` does; `audited`: it leaves an event ``access.acted``.
    """

    method: str
    path: str
    policy: Policy
    handler: Handler
    tag: str
    answer: Any = None
    status: int = 200
    also: Sequence[int] = ()
    body: Any = None
    body_optional: bool = False
    query: Any = None
    media: str = "application/json"
    streams: bool = False
    errors: Sequence[int] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    large_body: bool = False
    audited: bool = False
    decode: Callable[[msgspec.json.Decoder[Any], bytes, int], Any] = decode_body

    @property
    def summary(self) -> str:
        """The first paragraph of the handler's docstring."""
        return " ".join((self.handler.__doc__ or "").strip().partition("\n\n")[0].split())


class Table:
    """The routes of one module."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.routes: list[Route] = []

    def route(self, method: str, path: str, policy: Policy, **options: Any) -> Callable[[Handler], Handler]:
        """Register the decorated handler. Raises ValueError for a policy that only looks on a method that may
        change something."""
        if not fits_method(policy, method):
            raise ValueError(f"{method} {path} may change something, and its policy {policy} only looks")

        def register(handler: Handler) -> Handler:
            self.routes.append(
                Route(method=method, path=path, policy=policy, handler=handler, tag=self.tag, **options)
            )
            return handler

        return register


async def read_body(request: web.Request, limit: int) -> bytes:
    """Return the body, holding no more than `limit` bytes. Raises TooLarge."""
    if request.content_length is not None and request.content_length > limit:
        raise _too_large(limit)
    parts, size = [], 0
    while part := await request.content.readany():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return b"".join(parts)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes", hint="submit large batches in parts")


FOR_HEADER = "X-Leptond-For"
_USER = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._@-]{0,127}\Z")


def _rights(request: web.Request, route: Route) -> Rights:
    """The rights with which a request is carried out: the caller's, or, where an administrator submits for
    another, that person's. Raises BadRequest, Forbidden."""
    rights: Rights = request[RIGHTS]
    user = request.headers.get(FOR_HEADER)
    if user is None:
        return rights
    if route.policy is not Policy.SUBMIT:
        raise BadRequest(f"{FOR_HEADER} is for submits only", hint="leave it out")
    if not _USER.match(user):
        raise BadRequest(f"{FOR_HEADER} must be the name of a user")
    if not rights.caller.admin:
        raise Forbidden("only an administrator submits for others", hint=f"leave {FOR_HEADER} out")
    return request.app[CONTEXT].identities.on_behalf_of(user)


def handler_of(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return the aiohttp handler of a route."""
    decoder = msgspec.json.Decoder(route.body) if route.body is not None else None

    async def handle(request: web.Request) -> web.StreamResponse:
        context = request.app[CONTEXT]
        http = context.settings.http
        limit = http.max_batch_bytes if route.large_body else http.max_body_bytes
        # absolute, not by the byte; the others have a deadline for the whole request
        async with asyncio.timeout(http.request_timeout_s) if route.streams else contextlib.nullcontext():
            raw = await read_body(request, limit)
        body = None
        if decoder is not None and (raw or not route.body_optional):
            if request.content_type != "application/json":
                raise WrongMediaType(
                    f"the body's type is {request.content_type}",
                    hint="send -H 'Content-Type: application/json'",
                )
            most = MAX_BATCH_VALUES if route.large_body else MAX_VALUES
            if len(raw) > LARGE_BYTES:
                body = await asyncio.to_thread(route.decode, decoder, raw, most)
            else:
                body = route.decode(decoder, raw, most)
        elif decoder is None and raw:
            raise BadRequest("this request takes no body")
        elif decoder is not None:
            body = route.body()
        query = None
        if route.query is not None:
            pairs = list(request.query.items())
            if len({name for name, _ in pairs}) != len(pairs):
                raise BadRequest("a query parameter stands twice")
            query = decode_query(dict(pairs), route.query)
        elif request.query:
            name = next(iter(request.query))[:100]
            raise Invalid(f"this request takes no query parameters, not even {name!r}", pointer=f"/{name}")
        rights = _rights(request, route)
        answer = await route.handler(
            Call(request=request, context=context, rights=rights, body=body, query=query, raw=raw)
        )
        own: Rights = request[RIGHTS]
        if rights is not own:
            await context.audit.acted(
                own.caller, request.method, request.path, submitted_for=rights.caller.user
            )
        return respond(answer, route.status)

    # the middleware asks the route whether it streams
    handle.leptond_route = route  # type: ignore[attr-defined]
    return handle


def respond(answer: Any, status: int) -> web.StreamResponse:
    """Return the response to what a handler returned."""
    if isinstance(answer, web.StreamResponse):
        return answer
    headers: dict[str, str] = {}
    if isinstance(answer, Reply):
        answer, status, headers = answer.value, answer.status, answer.headers
    if answer is None:
        return web.Response(status=status, headers=headers)
    return web.Response(
        body=msgspec.json.encode(answer), status=status, headers=headers, content_type="application/json"
    )
