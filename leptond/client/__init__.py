"""The Python side of the API: transport, clients, executor. It never imports the command line or the
daemon.

For users: the clients, the executor, and what they raise. Each name is imported when it is first used, so
that leptonctl, which needs the transport alone, starts without the others."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # typing takes longer to import than most commands to answer
if TYPE_CHECKING:
    from typing import Any

    from leptond.client.errors import ApiError, ClientError
    from leptond.client.executor import JobFailed, JobFuture, LeptonExecutor, RemoteError, RemoteTraceback
    from leptond.client.sdk import AsyncClient, Client
    from leptond.client.server_events import ServerEvent, read_events
    from leptond.client.target import (
        BadTarget,
        Interrupted,
        Target,
        Unreachable,
        find_target,
        find_token,
        parse_host,
        socket_candidates,
        token_file,
    )
    from leptond.client.transport import Reply, Transport

_MODULES = {
    "errors": ("ApiError", "ClientError"),
    "executor": ("JobFailed", "JobFuture", "LeptonExecutor", "RemoteError", "RemoteTraceback"),
    "sdk": ("AsyncClient", "Client"),
    "server_events": ("ServerEvent", "read_events"),
    "target": (
        "BadTarget",
        "Interrupted",
        "Target",
        "Unreachable",
        "find_target",
        "find_token",
        "parse_host",
        "socket_candidates",
        "token_file",
    ),
    "transport": ("Reply", "Transport"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ApiError",
    "AsyncClient",
    "BadTarget",
    "Client",
    "ClientError",
    "Interrupted",
    "JobFailed",
    "JobFuture",
    "LeptonExecutor",
    "RemoteError",
    "RemoteTraceback",
    "Reply",
    "ServerEvent",
    "Target",
    "Transport",
    "Unreachable",
    "find_target",
    "find_token",
    "parse_host",
    "read_events",
    "socket_candidates",
    "token_file",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
