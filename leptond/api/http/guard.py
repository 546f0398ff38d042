"""The one middleware before every route and method: identity, host, origin, readiness, time limit, and errors
in one format."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import os
import re
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec
import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Middleware

from leptond import schema
from leptond.api.http import identity
from leptond.api.http.context import Context
from leptond.base.errors import (
    BadRequest,
    Forbidden,
    Misdirected,
    NotFound,
    Refused,
    StorageFull,
    TooMany,
    Unauthorized,
    Unavailable,
)
from leptond.core.access.caller import Caller
from leptond.core.access.roles import Role
from leptond.store import StoreFull

log = structlog.get_logger("leptond.http")

READING = frozenset({"GET", "HEAD"})
EARLY_PATHS = frozenset({"/healthz", "/readyz"})
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
MAX_BAD_TOKENS = 10
BAD_TOKENS_S = 60.0
MAX_ADDRESSES = 1024
HOSTS_HINT = "use one of localhost, 127.0.0.1 and [::1], or add the name to http.allowed_hosts"

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """The middleware. `observe` is called with method, route, status and seconds of every request. Wrong
    tokens are counted by address."""

    def __init__(self, context: Context, observe: Callable[[str, str, int, float], None]) -> None:
        self._context = context
        self._observe = observe
        # random once a run: a random number for each request would be a system call for each
        self._run = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._bad_tokens: dict[str, deque[float]] = {}

    @property
    def middleware(self) -> Middleware:
        """The middleware in the form that aiohttp takes."""

        @web.middleware
        async def guard(request: web.Request, handler: Handle) -> web.StreamResponse:
            return await self._handle(request, handler)

        return guard

    async def _handle(self, request: web.Request, handle: Handle) -> web.StreamResponse:
        begin = time.monotonic()
        request_id = f"{self._run}{next(self._numbers):08x}"
        protocol = request.protocol
        began = getattr(protocol, "request_began", None)
        if began is not None:
            began()
        try:
            response = await self._answer(request, handle, request_id)
        finally:
            ended = getattr(protocol, "request_ended", None)
            if ended is not None:
                ended()
        if not response.prepared:
            response.headers["X-Request-Id"] = request_id
            harden(response)
        route = request.match_info.route.resource
        self._observe(
            request.method,
            route.canonical if route is not None else "unmatched",
            response.status,
            time.monotonic() - begin,
        )
        return response

    async def _answer(self, request: web.Request, handle: Handle, request_id: str) -> web.StreamResponse:
        try:
            request[identity.CALLER] = self._check(request)
            if self._streams(request):
                _begin_wait(request)
                return await handle(request)
            async with asyncio.timeout(self._context.settings.http.request_timeout_s):
                return await handle(request)
        except Refused as refusal:
            return problem(request, refusal)
        except web.HTTPMethodNotAllowed as error:
            return _wrong_method(request, error)
        except web.HTTPNotFound:
            return problem(request, NotFound("there is nothing at this path", hint="see /v1/openapi.json"))
        except web.HTTPException as error:
            return problem(request, BadRequest(error.reason), status=error.status, slug="http-error")
        except TimeoutError:
            return problem(request, BadRequest("the request took too long"), status=408, slug="timeout")
        except (web.RequestPayloadError, HttpProcessingError):
            return problem(request, BadRequest("the body is not as the head of the request says"))
        except StoreFull:
            return problem(request, StorageFull("the disk is full", hint="make room; nothing was stored"))
        except (ConnectionResetError, asyncio.CancelledError):
            raise
        except Exception:
            return self._broken(request, request_id)

    def _broken(self, request: web.Request, request_id: str) -> web.Response:
        log.exception("http.request_failed", method=request.method, path=request.path, request_id=request_id)
        refusal = Refused(
            "leptond failed to answer; its log says why", hint=f"look for request_id {request_id}"
        )
        return problem(request, refusal, status=500, slug="internal-error")

    def _open(self, request: web.Request) -> bool:
        route = getattr(request.match_info.handler, "leptond_route", None)
        return route is not None and route.open

    def _streams(self, request: web.Request) -> bool:
        route = getattr(request.match_info.handler, "leptond_route", None)
        return route is not None and route.streams

    # -- identity, host, origin --------------------------------------------------------------------

    def _check(self, request: web.Request) -> Caller:
        self._check_target(request)
        caller = identity.peer(request)
        if caller is None:
            self._check_host(request)
            self._check_origin(request)
            caller = self._bearer(request)
        phase = self._context.phase()
        if phase != "ready" and request.path not in EARLY_PATHS:
            raise Unavailable(f"the daemon is {phase}", hint="try again", headers={"Retry-After": "1"})
        return caller

    def _hosts(self) -> set[str]:
        return {*LOCAL_HOSTS, *map(str.lower, self._context.settings.http.allowed_hosts)}

    def _check_target(self, request: web.Request) -> None:
        """Raises Misdirected for the target of another server (``GET http://other/``), BadRequest for what is
        no path."""
        target = request.raw_path
        if target.startswith("/"):
            return
        scheme, mark, rest = target.partition("://")
        if not mark or scheme.lower() not in ("http", "https"):
            raise BadRequest(
                "the target of the request is not a path", hint="ask for a path, such as /v1/status"
            )
        if host_of(re.split(r"[/?#]", rest, maxsplit=1)[0]) not in self._hosts():
            raise Misdirected("the target names none of this server's hosts", hint=HOSTS_HINT)

    def _check_host(self, request: web.Request) -> None:
        """Prevent DNS rebinding: a page of another site cannot send one of our host names. Raises
        Misdirected."""
        hosts = request.headers.getall(hdrs.HOST, [])
        if len(hosts) != 1 or host_of(hosts[0]) not in self._hosts():
            raise Misdirected("the Host header names none of this server's hosts", hint=HOSTS_HINT)

    def _check_origin(self, request: web.Request) -> None:
        """Prevent cross-site requests, which a page of another site makes a browser send. Raises
        Forbidden."""
        site = request.headers.get("Sec-Fetch-Site", "none")
        if site not in ("none", "same-origin"):
            raise Forbidden("a browser sent this for a page of another site")
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None:
            scheme, mark, host = origin.partition("://")
            if not mark or scheme not in ("http", "https") or host_of(host) not in self._hosts():
                raise Forbidden("a page of another origin sent this")

    def _bearer(self, request: web.Request) -> Caller:
        me = Caller(user=identity.own_user(), uid=os.geteuid(), role=Role.ADMIN)
        if self._open(request):
            return me
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        token, tokens = token.strip(), self._context.tokens
        if tokens is not None and scheme.lower() == "bearer":
            # a right token is accepted whatever was tried from its address: failures must not lock a user out
            if _same(token, tokens.full):
                return me
            if _same(token, tokens.read_only):
                _must_only_read(request)
                return Caller(user=me.user, uid=me.uid, role=Role.VIEWER)
            caller = self._of_user(request, token)
            if caller is not None:
                return caller
        if token:
            self._count_failure(request.remote or "unknown")
        file = self._context.places.token_file
        raise Unauthorized(
            f"this token is not valid: the daemon's is in {file}"
            if token
            else f"TCP needs the token, which is in {file}",
            hint="send it as -H 'Authorization: Bearer ...'",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"' if token else "Bearer"},
        )

    def _of_user(self, request: web.Request, token: str) -> Caller | None:
        """The user whose own token it is, while the account may use the Unix socket. Raises Forbidden."""
        assert self._context.tokens is not None
        found = self._context.tokens.bearer(token)
        if found is None:
            return None
        user, read_only = found
        uid = identity.may_connect(user, self._context.places.socket)
        if uid is None:
            raise Forbidden(
                f"{user} may not use this queue any more",
                hint="become a member of its group (usually leptond)",
            )
        if read_only:
            _must_only_read(request)
        return Caller(user=user, uid=uid, role=Role.VIEWER if read_only else Role.USER)

    def _count_failure(self, address: str) -> None:
        """Count a wrong token. Raises TooMany for too many from one address within BAD_TOKENS_S."""
        now = time.monotonic()
        if address not in self._bad_tokens and len(self._bad_tokens) >= MAX_ADDRESSES:
            self._bad_tokens.clear()
        failures = self._bad_tokens.setdefault(address, deque(maxlen=MAX_BAD_TOKENS))
        if len(failures) == MAX_BAD_TOKENS and failures[0] > now - BAD_TOKENS_S:
            raise TooMany("too many wrong tokens from this address", headers={"Retry-After": "60"})
        failures.append(now)


def _must_only_read(request: web.Request) -> None:
    """Raises Forbidden for a request that changes something."""
    if request.method not in READING:
        raise Forbidden("this token only looks", hint="use the one that may change things")


def _begin_wait(request: web.Request) -> None:
    """Raises Unavailable when too many requests wait."""
    began = getattr(request.protocol, "wait_began", None)
    if began is not None and not began():
        raise Unavailable("too many requests wait already", hint="try again", headers={"Retry-After": "5"})


def _wrong_method(request: web.Request, error: web.HTTPMethodNotAllowed) -> web.Response:
    allowed = ", ".join(sorted(error.allowed_methods))
    refusal = BadRequest(f"{request.method} is not possible here", hint=f"try {allowed}")
    response = problem(request, refusal, status=405, slug="method-not-allowed")
    response.headers["Allow"] = allowed
    return response


def _same(token: str, expected: str) -> bool:
    return hmac.compare_digest(token.encode("utf-8", "replace"), expected.encode())


_AUTHORITY = re.compile(r"^(\[[0-9a-f:.]{2,45}\]|[a-z0-9_-][a-z0-9_.-]{0,252})(?::([0-9]{1,5}))?\Z", re.ASCII)


def host_of(authority: str) -> str | None:
    """Return ``localhost`` for ``localhost:8370``, ``[::1]`` for ``[::1]:8370``; None for what is not
    strictly ``host[:digits]``, such as one with a user, a path or a space."""
    match = _AUTHORITY.match(authority.lower())
    if match is None or (match[2] is not None and int(match[2]) > 65535):
        return None
    return match[1]


def harden(response: web.StreamResponse) -> None:
    """Set the headers that every answer carries."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")


def problem(
    request: web.Request, refusal: Refused, *, status: int | None = None, slug: str | None = None
) -> web.Response:
    """Return the response to an error, as RFC 9457 defines it."""
    body = schema.Problem(
        type=f"/problems/{slug or refusal.slug}",
        title=refusal.title,
        status=status or refusal.status,
        detail=refusal.detail,
        instance=request.path,
        hint=refusal.hint,
        errors=[schema.ProblemError(pointer=one.pointer, message=one.message) for one in refusal.faults],
    )
    return web.Response(
        body=msgspec.json.encode(body),
        status=status or refusal.status,
        headers=refusal.headers,
        content_type="application/problem+json",
    )
