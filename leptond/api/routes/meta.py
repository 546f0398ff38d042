"""Health, the OpenAPI document, and an explanation of each problem type."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from leptond import schema
from leptond.api.http.routing import Call, Reply, Table
from leptond.base import errors
from leptond.base.errors import NotFound, Refused
from leptond.core.access import run_as
from leptond.core.access.policies import Policy

table = Table("meta")


@table.route("GET", "/healthz", Policy.OPEN, answer=schema.Health)
async def healthz(call: Call) -> schema.Health:
    """Check that the process is alive."""
    return schema.Health(status="ok")


@table.route("GET", "/readyz", Policy.LOOK, answer=schema.Health)
async def readyz(call: Call) -> Reply:
    """Check that the daemon schedules: it has reconciled, and its database answers."""
    context = call.context
    await context.store.ping()
    phase = context.phase()
    health = schema.Health(
        status="ok" if phase == "ready" else phase,
        checks={
            "database": "ok",
            "scheduler": phase,
            "gpus": context.gpu_view.note or "ok",
            "accounts": run_as.protection(context.settings.accounts, os.geteuid()),
        },
    )
    return Reply(health, status=200 if phase == "ready" else 503)


@table.route("GET", "/problems/{slug}", Policy.LOOK, answer=str, media="text/plain", errors=(404,))
async def problem_page(call: Call) -> web.Response:
    """Explain a problem type."""
    slug = call.path("slug")
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, Refused) and kind.slug == slug:
            text = f"{kind.title} (HTTP {kind.status})\n\n{inspect.getdoc(kind)}\n"
            return web.Response(text=text, content_type="text/plain")
    raise NotFound(f"there is no problem type {slug[:40]!r}")


def description(document: Callable[[], dict[str, Any]]) -> Table:
    """Return the route that serves the OpenAPI document. The document is made at the first request, because
    making it takes a tenth of the daemon's start, and memory that is not given back."""
    own = Table("meta")
    encoded = functools.cache(lambda: msgspec.json.encode(document()))

    @own.route("GET", "/v1/openapi.json", Policy.LOOK, answer=dict[str, Any])
    async def openapi(call: Call) -> web.Response:
        """Return this document."""
        return web.Response(body=await asyncio.to_thread(encoded), content_type="application/json")

    return own
