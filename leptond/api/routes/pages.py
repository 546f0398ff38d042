"""The web page: its files, read once and served under a policy that runs nothing from elsewhere."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from aiohttp import web

from leptond.api.http.routing import Call, Table
from leptond.base.errors import NotFound
from leptond.core.access.policies import Policy

table = Table("page")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MEDIA = {
    "html": "text/html",
    "js": "text/javascript",
    "css": "text/css",
    "svg": "image/svg+xml",
}


@cache
def assets() -> dict[str, tuple[bytes, str]]:
    """Files of the page by path below ``web/``: bytes and ETag of each."""
    found: dict[str, tuple[bytes, str]] = {}
    root = files("leptond.api") / "web"
    for folder, prefix in ((root, ""), (root / "vendor", "vendor/")):
        for file in folder.iterdir():
            if file.is_file() and file.name.rpartition(".")[2] in MEDIA:
                data = file.read_bytes()
                found[prefix + file.name] = (data, f'"{hashlib.sha256(data).hexdigest()[:16]}"')
    return found


def _serve(call: Call, name: str) -> web.Response:
    if name not in assets():
        raise NotFound(f"the page has no file {name[:80]!r}")
    data, tag = assets()[name]
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    if call.request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    kind = MEDIA[name.rpartition(".")[2]]
    return web.Response(body=data, headers=headers, content_type=kind, charset="utf-8")


@table.route("GET", "/", Policy.OPEN, answer=str, media="text/html", also=(304,))
async def page(call: Call) -> web.Response:
    """The page for people. It holds no secrets; what it shows comes from the routes below, with the token."""
    return _serve(call, "index.html")


@table.route("GET", "/web/{name}", Policy.OPEN, answer=str, media="text/plain", also=(304,), errors=(404,))
async def asset(call: Call) -> web.Response:
    """A script or a style of the page."""
    return _serve(call, call.path("name"))


@table.route(
    "GET", "/web/vendor/{name}", Policy.OPEN, answer=str, media="text/plain", also=(304,), errors=(404,)
)
async def vendored(call: Call) -> web.Response:
    """A library that the page uses."""
    return _serve(call, f"vendor/{call.path('name')}")
