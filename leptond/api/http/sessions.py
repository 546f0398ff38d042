"""Sessions of the page: a cookie that scripts cannot read, and a key that only the page's own origin can.

Cookies are shared by all ports of a host, so that a server of another user on this machine may be sent ours.
It is half of the secret: the other half stays in the storage of the page's origin, which has the port in it,
and comes as a header, which no other origin may send."""

from __future__ import annotations

from aiohttp import web

HEADER = "X-Leptond-Session"
_SPLIT = 27


def cookie_name(port: int | None) -> str:
    """Return the name of the cookie of the daemon at a port.

    >>> cookie_name(8370)
    'leptond_8370'
    """
    return f"leptond_{port or 0}"


def split(secret: str) -> tuple[str, str]:
    """Return the halves of a session's secret: for the cookie, and for the page."""
    return secret[:_SPLIT], secret[_SPLIT:]


def secret_of(request: web.Request, port: int | None) -> str | None:
    """Return the secret of the session that a request comes in; None if it lacks a half of it."""
    key = request.headers.get(HEADER)
    cookie = request.cookies.get(cookie_name(port)) if key else None
    return cookie + key if cookie and key else None


def set_cookie(response: web.Response, port: int | None, half: str, *, secure: bool) -> None:
    """Let the browser keep its half until it is closed. No domain: for this host alone."""
    response.set_cookie(cookie_name(port), half, path="/", httponly=True, samesite="Strict", secure=secure)


def drop_cookie(response: web.Response, port: int | None) -> None:
    """Let the browser forget its half."""
    response.del_cookie(cookie_name(port), path="/", httponly=True, samesite="Strict")
