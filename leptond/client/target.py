"""The address of a daemon and the token for it: parsing, the places of its socket, and the errors of one
that does not answer there."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping

from leptond.base import socket_places
from leptond.client.errors import EXIT_UNREACHABLE, ClientError, own_problem

DEFAULT_PORT = 8370
PROBE_S = 1.0
"""Longest wait for one of several sockets to answer."""


class Target:
    """The address of a daemon: a Unix socket's path, or a host and port, with TLS or without.
    `looked_at`: where a socket was looked for."""

    __slots__ = ("host", "looked_at", "path", "port", "tls")

    def __init__(
        self,
        path: str | None = None,
        host: str = "",
        port: int = 0,
        looked_at: tuple[str, ...] = (),
        *,
        tls: bool = False,
    ) -> None:
        self.path = path
        self.host = host
        self.port = port
        self.looked_at = looked_at
        self.tls = tls

    def __repr__(self) -> str:
        return f"Target({self.path!r}, {self.host!r}, {self.port!r}, {self.looked_at!r}, tls={self.tls})"

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def advice(self) -> str:
        """Advice for when no daemon answers there."""
        if self.path is None:
            return "is it started with --listen there? leptonctl doctor looks further"
        if self.path not in (self.looked_at or socket_candidates(os.environ)):
            return "is a daemon started with --socket or --state-dir there? leptonctl doctor looks further"
        from leptond.client.installation import installed, start_advice

        return start_advice(installed(os.environ))


class BadTarget(ClientError):
    """`--host` or LEPTOND_HOST is not an address."""

    def __init__(self, host: str) -> None:
        detail = f"{host!r} is not an address of a daemon"
        hint = "use unix:///path/to/leptond.sock, http://HOST:PORT or https://HOST"
        super().__init__(own_problem("bad-host", "Not an address", detail, hint), exit_code=2)


class Unreachable(ClientError):
    """No daemon answered there. No request was sent."""

    def __init__(self, target: Target, cause: str, hint: str | None = None) -> None:
        detail = f"cannot reach leptond at {target} ({cause})"
        others = [path for path in target.looked_at if path != target.path]
        if others:
            detail += f"; nor is one at {', '.join(others)}"
        problem = own_problem("unreachable", "The daemon cannot be reached", detail, hint or target.advice())
        super().__init__(problem, exit_code=EXIT_UNREACHABLE)


class Interrupted(ClientError):
    """The connection broke after the request was sent: whether it was carried out is not known."""

    def __init__(self, target: Target, cause: str) -> None:
        detail = f"the connection to leptond at {target} broke before the answer came ({cause})"
        hint = "it is not known whether the request was carried out; look with: leptonctl status"
        problem = own_problem("interrupted", "The connection broke", detail, hint)
        super().__init__(problem, exit_code=EXIT_UNREACHABLE)


def parse_host(host: str) -> Target:
    """``unix:///path``, ``unix:/path``, a bare absolute path, or ``http://host[:port]``, or
    ``https://host[:port]``. Raises BadTarget."""
    if host.startswith("/"):
        return Target(path=host)
    if host.startswith("unix:"):
        path = host.removeprefix("unix:")
        path = path.removeprefix("//") if path.startswith("///") else path
        if path.startswith("/") and not path.startswith("//"):
            return Target(path=path)
        raise BadTarget(host)
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(host)
        is_http = parts.scheme in ("http", "https")
        if not is_http or not parts.hostname or parts.path.strip("/") or parts.query:
            raise BadTarget(host)
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else DEFAULT_PORT)
        return Target(host=parts.hostname, port=port, tls=tls)
    except ValueError:
        raise BadTarget(host) from None


def socket_candidates(environ: Mapping[str, str]) -> list[str]:
    """The paths where a daemon of this user or of the machine puts its socket, in the order to try them."""
    return socket_places.to_look_at(environ)


def _home(environ: Mapping[str, str]) -> str:
    return environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111  # pathlib costs milliseconds


def find_target(host: str | None, environ: Mapping[str, str]) -> Target:
    """`host`, else LEPTOND_HOST, else the first socket that is there. When none is, the first place of
    all, so that the error names it. Raises BadTarget."""
    named = host or environ.get("LEPTOND_HOST", "")
    if named:
        return parse_host(named)
    candidates = socket_candidates(environ)
    there = [path for path in candidates if _is_socket(path)]
    # a daemon that was killed leaves its socket: where there is another, the one that answers is meant
    path = next(filter(_answers, there), there[0]) if len(there) > 1 else next(iter(there), None)
    if path is None:
        path = next((path for path in candidates if _place_is_there(path)), candidates[0])
    return Target(path=path, looked_at=tuple(candidates))


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return False


def _answers(path: str) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _place_is_there(path: str) -> bool:
    """Return True if the parent of leptond's own directory exists."""
    return os.path.isdir(path.removesuffix("/leptond/leptond.sock") or "/")  # noqa: PTH112


def token_file(environ: Mapping[str, str]) -> str:
    """The path of this user's token file."""
    config = environ.get("XDG_CONFIG_HOME", "")
    return f"{config if config.startswith('/') else f'{_home(environ)}/.config'}/leptond/token"


def find_token(environ: Mapping[str, str]) -> str | None:
    """The token: LEPTOND_TOKEN, else the content of the token file."""
    token = environ.get("LEPTOND_TOKEN", "").strip()
    if not token:
        with contextlib.suppress(OSError, UnicodeDecodeError), open(token_file(environ)) as file:  # noqa: PTH123
            token = file.read().strip()
    return token or None
