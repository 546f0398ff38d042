"""The listeners: the Unix socket always, TCP where configured."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from leptond.api.http import openapi
from leptond.api.http.connection import HEADER_S, Caps, ClientFaults, Connection, Connections
from leptond.api.http.context import CONTEXT, Context
from leptond.api.http.guard import Guard
from leptond.api.http.routing import Call, Route, Table, handler_of
from leptond.api.metrics.exposition import Metrics
from leptond.api.routes import (
    access,
    arrays,
    budgets,
    database,
    events,
    gpus,
    job_sets,
    jobs,
    logs,
    meta,
    pages,
    plan,
    progress,
    queues,
    status,
    submits,
    sweeps,
    timeline,
    usage,
    warm,
    webhooks,
)
from leptond.api.tcp_listener import checked_listen, tls_context
from leptond.api.unix_listener import AT_ONCE, UnixListener
from leptond.base.errors import StartRefused
from leptond.base.unix_sockets import ABOVE
from leptond.config import HttpSettings
from leptond.core.access.policies import Policy

IDLE_S = 30.0
MAX_LINE, MAX_HEADER = 8190, 16 * 1024
SHUTDOWN_S = 2.0


MODULES = (
    database,
    access,
    status,
    submits,
    jobs,
    job_sets,
    arrays,
    sweeps,
    progress,
    logs,
    gpus,
    queues,
    events,
    timeline,
    usage,
    budgets,
    meta,
    pages,
    plan,
    webhooks,
    warm,
)
"""Modules with a table of routes."""


def all_routes(metrics: Metrics) -> Sequence[Route]:
    """Return every route of the server."""
    own = Table("meta")

    @own.route("GET", "/metrics", Policy.LOOK, answer=str, media="text/plain")
    async def metrics_page(call: Call) -> web.Response:
        """Prometheus metrics."""
        return web.Response(
            body=await metrics.page(call.context, call.rights),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    tables = [*(module.table for module in MODULES), own]
    routes = [route for table in tables for route in table.routes]
    description = meta.description(functools.partial(openapi.document, routes))
    return [*routes, *description.routes]


def _caps(context: Context) -> Caps:
    return Caps.of_process(addresses=not context.settings.http.behind_tls_proxy)


class Api:
    """The HTTP server of one daemon. `header_s`: seconds that the head of a request may take to arrive.
    `caps`: most connections, unless those that the process allows. `inherited`: the sockets that the service
    manager holds, by their paths. `listeners`: its Unix sockets. `port`: that of the TCP listener, if there
    is one."""

    def __init__(
        self,
        context: Context,
        *,
        header_s: float = HEADER_S,
        caps: Caps | None = None,
        inherited: Mapping[Path, socket.socket] | None = None,
    ) -> None:
        self._context = context
        self._inherited = inherited or {}
        self._header_s = header_s
        self.connections = Connections(caps or _caps(context), ClientFaults())
        self._runner: web.AppRunner | None = None
        self.listeners: list[UnixListener] = []
        self._servers: list[asyncio.Server] = []
        self.port: int | None = None

    async def start(self) -> None:
        """Start to listen. Raises StartRefused (75, 78)."""
        metrics = Metrics()
        await metrics.begin(self._context.store)
        guard = Guard(self._context, metrics.observe)
        app = web.Application(middlewares=[guard.middleware])
        app[CONTEXT] = self._context
        for route in all_routes(metrics):
            app.router.add_route(route.method, route.path, handler_of(route))
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        places = self._context.places
        for path in places.sockets:
            listener = UnixListener(
                path,
                self._factory(),
                group=places.mode == "system",
                everybody=self._context.settings.accounts.multi_user,
                inherited=self._inherited.get(path),
            )
            await listener.start(parents=ABOVE)
            self.listeners.append(listener)
        if self._context.settings.http.listen:
            await self._listen_tcp(self._context.settings.http)

    def _factory(self) -> Any:
        assert self._runner is not None
        manager, loop = self._runner.server, asyncio.get_running_loop()

        def make() -> Connection:
            return Connection(
                manager,
                loop=loop,
                connections=self.connections,
                header_s=self._header_s,
                keepalive_timeout=IDLE_S,
                access_log=None,
                max_line_size=MAX_LINE,
                max_field_size=MAX_HEADER,
                auto_decompress=False,
                lingering_time=1.0,
            )

        return make

    async def _listen_tcp(self, http: HttpSettings) -> None:
        host, port = checked_listen(http)
        context = tls_context(http)
        try:
            server = await asyncio.get_running_loop().create_server(
                self._factory(),
                host,
                port,
                backlog=4 * AT_ONCE,
                ssl=context,
                ssl_handshake_timeout=self._header_s if context is not None else None,
            )
        except OSError as error:
            raise StartRefused(f"cannot listen on {http.listen}: {error}", 75) from None
        self.port = server.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self._context.page_address = f"{shown}:{self.port}"
        self._context.page_port = self.port
        self._servers.append(server)

    def open_connections(self) -> list[Connection]:
        """Return the connections that are open now."""
        if self._runner is None or self._runner.server is None:
            return []
        return [one for one in self._runner.server.connections if isinstance(one, Connection)]

    async def stop(self) -> None:
        """Stop listening, wait for short requests, end streams."""
        self._context.closing.set()
        self._context.commits.wake()  # streams that wait see the end
        self._context.ends.wake()
        for listener in self.listeners:
            listener.close()
        for server in self._servers:
            server.close()
        if self._runner is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SHUTDOWN_S):
                    assert self._runner.server is not None
                    await self._runner.server.shutdown(SHUTDOWN_S)
            await self._runner.cleanup()
        self.connections.faults.report()
