"""The one middleware before every route and method: identity, host, origin, readiness, time limit, and errors
in one format."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable

import msgspec
import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Middleware

from leptond import schema
from leptond.api.http import identity, sessions
from leptond.api.http.context import Context
from leptond.api.http.identity import Identities
from leptond.api.http.routing import Route
from leptond.base.errors import (
    BadRequest,
    Forbidden,
    HeadTooLarge,
    Misdirected,
    NotFound,
    Refused,
    StorageFull,
    Unauthorized,
    Unavailable,
)
from leptond.core.access.caller import Caller
from leptond.core.access.policies import NEEDED, Policy, check
from leptond.core.access.rights import Rights
from leptond.core.access.roles import Role
from leptond.core.access.visible import Visible
from leptond.store import StoreFull

log = structlog.get_logger("leptond.http")

EARLY_PATHS = frozenset({"/healthz", "/readyz"})
LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
MAX_HEADERS, MAX_HEAD = 64, 16 * 1024
HOSTS_HINT = "use one of localhost, 127.0.0.1 and [::1], or add the name to http.allowed_hosts"

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """The middleware. `observe` is called with method, route, status and seconds of every request."""

    def __init__(self, context: Context, observe: Callable[[str, str, int, float], None]) -> None:
        self._context = context
        self._observe = observe
        # random once a run: a random number for each request would be a system call for each
        self._run = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._identities: Identities = context.identities
        caller = Caller(user="", uid=None, role=Role.VIEWER)
        self._nobody = Rights(caller=caller, visible=Visible(user=""))

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
            return await self._carry_out(request, handle)
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

    async def _carry_out(self, request: web.Request, handle: Handle) -> web.StreamResponse:
        route = _route_of(request)
        request[identity.RIGHTS] = rights = await self._check(request, route)
        if route is not None and route.streams:
            _begin_wait(request)
            response = await self._stream(request, handle)
        else:
            async with asyncio.timeout(self._context.settings.http.request_timeout_s):
                response = await handle(request)
        if route is not None and route.audited and response.status < 400:
            await self._context.audit.acted(rights.caller, request.method, request.path)
        return response

    async def _stream(self, request: web.Request, handle: Handle) -> web.StreamResponse:
        """Answer for as long as the client stays, and its token is valid."""
        token, transport = request.get(identity.TOKEN), request.transport
        if token is None or transport is None:
            return await handle(request)
        with self._context.registry.streaming(token, transport.abort):
            return await handle(request)

    # -- identity, host, origin --------------------------------------------------------------------

    async def _check(self, request: web.Request, route: Route | None) -> Rights:
        _check_head(request)
        self._check_target(request)
        policy = route.policy if route is not None else None
        rights = await self._identify(request, policy)
        if policy is not None:
            check(policy, rights.caller)
        phase = self._context.phase()
        if phase != "ready" and request.path not in EARLY_PATHS:
            raise Unavailable(f"the daemon is {phase}", hint="try again", headers={"Retry-After": "1"})
        return rights

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
        if origin is not None and not self._is_own(origin, request.headers[hdrs.HOST]):
            raise Forbidden(
                "a page of another origin sent this",
                hint="the page must be asked for under the address that it is shown at",
            )

    def _is_own(self, origin: str, host: str) -> bool:
        """Return True for the origin of this server: that of the Host header, port and all (on the same host
        other users have servers, too), or, behind a proxy that changes it, a configured name at its usual
        port."""
        scheme, mark, authority = origin.partition("://")
        if not mark or scheme not in ("http", "https"):
            return False
        if authority.lower() == host.lower():
            return True
        names = {name.lower() for name in self._context.settings.http.allowed_hosts} - set(LOCAL_HOSTS)
        return authority.lower() in names

    async def _identify(self, request: web.Request, policy: Policy | None) -> Rights:
        """The caller with its rights. Raises Unauthorized, Forbidden, TooMany."""
        at = identity.peer(request)
        if at is not None:
            return await self._identities.of_peer(request, at)
        self._check_host(request)
        self._check_origin(request)
        if policy is not None and NEEDED[policy] is None:
            return self._nobody
        rights = self._bearer(request)
        if rights is None:
            rights = self._session(request)
        if rights is None:
            raise self._unauthorized(request)
        return rights

    def _bearer(self, request: web.Request) -> Rights | None:
        """The bearer of the token in the header; None without one."""
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        token = token.strip()
        if not token or scheme.lower() != "bearer":
            return None
        # a right token is accepted whatever was tried from its address: failures must not lock a user out
        rights = self._identities.of_file_token(token)
        return rights if rights is not None else self._of_secret(request, token)

    def _session(self, request: web.Request) -> Rights | None:
        """The person that is signed in to the page; None without a session."""
        secret = sessions.secret_of(request, self._context.page_port)
        return self._of_secret(request, secret) if secret is not None else None

    def _of_secret(self, request: web.Request, secret: str) -> Rights | None:
        found = self._identities.of_secret(secret)
        if found is None:
            self._context.wrong_secrets.count(request)
            return None
        request[identity.TOKEN] = found[1]
        return found[0]

    def _unauthorized(self, request: web.Request) -> Unauthorized:
        token = hdrs.AUTHORIZATION in request.headers or sessions.HEADER in request.headers
        file = self._context.places.token_file
        return Unauthorized(
            f"this token is not valid: the daemon's is in {file}"
            if token
            else f"TCP needs a token: the daemon's is in {file}",
            hint="send it as -H 'Authorization: Bearer ...'; `leptonctl token new` makes one of your own",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"' if token else "Bearer"},
        )


def _route_of(request: web.Request) -> Route | None:
    return getattr(request.match_info.handler, "leptond_route", None)


def _check_head(request: web.Request) -> None:
    """Raises HeadTooLarge for more headers than a client has use for."""
    headers = request.raw_headers
    if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEAD:
        raise HeadTooLarge(f"the request has more than {MAX_HEADERS} headers, or {MAX_HEAD} bytes of them")


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
