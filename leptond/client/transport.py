"""Talks HTTP to a leptond daemon: over its Unix socket, or over TCP with a token. Standard library only,
and quick to import; it knows nothing of the daemon but its HTTP interface. Bodies are plain dicts and
lists, shaped as the OpenAPI document says."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from time import monotonic, sleep

from leptond.client.errors import EXIT_REFUSED, ApiError, ClientError, own_problem
from leptond.client.http import Answer, BadAnswer, Connection, Headers
from leptond.client.target import Interrupted, Target, Unreachable, find_target, find_token, token_file

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any

    from leptond.client.server_events import ServerEvent

TIMEOUT_S = 30.0
"""Longest wait for an answer, beyond what the request itself asks the daemon to wait."""

RESTART_S = 10.0
"""Seconds for which a request that may be repeated is repeated when the daemon goes away: a restart takes a
second or two."""

PATIENCE_S = 300.0
"""Seconds for which a stream, or a wait for a job, tries to find the daemon again."""


class Reply:
    """An answer with its whole body."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, *, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        """The decoded body; None when it is empty. Raises ClientError when it is not JSON."""
        if not self.body:
            return None
        try:
            return json.loads(self.body)
        except ValueError:
            detail = f"the answer is not JSON: {self.body[:80]!r}"
            hint = "is another program listening there?"
            problem = own_problem("bad-answer", "Not an answer of leptond", detail, hint)
            raise ClientError(problem, exit_code=EXIT_REFUSED) from None


class Transport:
    """Requests to one daemon. `trace` gets a line for every request (for ``-v``). Not for several threads."""

    def __init__(
        self,
        target: Target,
        *,
        token: str | None = None,
        timeout_s: float = TIMEOUT_S,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.target = target
        self.timeout_s = timeout_s
        self._token = token
        self._trace = trace
        self._connection: Connection | None = None

    @classmethod
    def find(
        cls,
        host: str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        trace: Callable[[str], None] | None = None,
    ) -> Transport:
        """A transport to the daemon that the environment points to. Raises BadTarget."""
        environ = os.environ if environ is None else environ
        target = find_target(host, environ)
        # the socket needs no token: the kernel says who is calling
        token = find_token(environ) if target.path is None else None
        return cls(target, token=token, timeout_s=timeout_s, trace=trace)

    def close(self) -> None:
        """Close the kept connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The decoded answer to a GET. Raises ClientError."""
        return self.request("GET", path, query=query).json()

    def post(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """The decoded answer to a POST. With an idempotency `key` it is repeated when the connection
        breaks. Raises ClientError."""
        headers = {"Idempotency-Key": key} if key is not None else {}
        return self.request("POST", path, body=body, headers=headers).json()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
        patience_s: float = RESTART_S,
        persistent: bool = False,
    ) -> Reply:
        """The answer, with a status under 400. `wait_s` is how long the daemon was asked to wait.

        A 503 changed nothing, so it is asked again; so is a GET, and a POST with an Idempotency-Key, when
        the connection broke; with `persistent` also when there is no daemon at first. All that for
        `patience_s`. Raises ApiError, Unreachable, Interrupted.
        """
        headers = dict(headers or {})
        repeatable = method == "GET" or "Idempotency-Key" in headers
        give_up_at = monotonic() + patience_s
        was_there = persistent
        pause_s = 0.1
        while True:
            try:
                return self._once(method, _url(path, query), body, headers, wait_s)
            except ApiError as error:
                if error.status != 503:
                    raise
                failure: ClientError = error
            except Unreachable as error:
                if not was_there:
                    raise
                failure = error
            except Interrupted as error:
                if not repeatable:
                    raise
                failure = error
            was_there = True
            if monotonic() + pause_s > give_up_at:
                raise failure
            sleep(pause_s)
            pause_s = min(1.0, pause_s * 2)

    def wait_job(self, ref: str, wait_s: float, *, patience_s: float = PATIENCE_S) -> Any:
        """Job `ref` (or all of ``47_*``) as soon as it has ended, or after `wait_s` (at most 60) as it then
        is. With `patience_s` it also waits that long for a daemon that is not there. Raises ClientError."""
        from urllib.parse import quote

        query = {"wait_s": f"{wait_s:g}"} if wait_s > 0 else None
        path = f"/v1/arrays/{ref[:-2]}" if ref.endswith("_*") else f"/v1/jobs/{quote(ref)}"
        reply = self.request(
            "GET", path, query=query, wait_s=wait_s, patience_s=patience_s, persistent=patience_s > 0
        )
        return reply.json()

    @contextlib.contextmanager
    def stream(
        self,
        path: str,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Iterator[Answer]:
        """The answer to a GET, its body still to be read, on a connection of its own. Raises ClientError."""
        connection = self._new_connection(timeout_s or self.timeout_s)
        try:
            self._connect(connection)
            response = self._exchange(connection, "GET", _url(path, query), None, dict(headers or {}))
            if response.status >= 400:
                raise _api_error(response.status, response.reason, self._read(response))
            yield response
        finally:
            connection.close()

    def pieces(self, response: Answer, size: int = 65536) -> Iterator[bytes]:
        """The body of a :meth:`stream` as it comes. Raises Interrupted when it is cut off."""
        while True:
            try:
                piece = response.read_some(size)
            except (OSError, BadAnswer) as error:
                raise Interrupted(self.target, str(error) or type(error).__name__) from None
            if not piece:
                break
            yield piece
        if response.missing_bytes:
            raise Interrupted(self.target, f"{response.missing_bytes} bytes are missing")

    def pages(self, path: str, query: Mapping[str, Any], *, limit: int | None = None) -> Any:
        """All pages of a list as one (``items``, ``next_cursor``); at most `limit` items."""
        items: list[Any] = []
        cursor: str | None = None
        while True:
            size = min(500, limit - len(items)) if limit is not None else 500
            page = self.get(path, {**query, "limit": size, "cursor": cursor})
            items += page["items"]
            cursor = page.get("next_cursor")
            if cursor is None or (limit is not None and len(items) >= limit):
                return {"items": items, "next_cursor": cursor}

    def follow(
        self,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        last_id: str | None = None,
        patience_s: float = PATIENCE_S,
        on_lost: Callable[[ClientError], None] | None = None,
    ) -> Generator[ServerEvent, None, None]:
        """Server-sent events until one of type ``end``. When the connection is lost it comes back, for up
        to `patience_s`, and resumes after the last id that was yielded; `on_lost` is called once each time.
        Raises ClientError when the first connection fails, or when none comes back."""
        from leptond.client.server_events import read_events

        query = dict(query or {})
        connected = lost_reported = False
        give_up_at, pause_s = 0.0, 0.1
        while True:
            headers = {"Accept": "text/event-stream"}
            if last_id is not None:
                headers["Last-Event-ID"] = last_id
                for start in ("tail", "offset", "since"):
                    query.pop(start, None)  # the id says better where to go on
            lost: ClientError = Interrupted(self.target, "the stream ended")
            try:
                # the daemon sends a comment every few seconds: a silent connection is a dead one
                with self.stream(path, query, headers, timeout_s=max(45.0, self.timeout_s)) as response:
                    connected = True
                    for event in read_events(_lines(response)):
                        lost_reported, give_up_at, pause_s = False, 0.0, 0.1
                        if event.id is not None:
                            last_id = event.id
                        elif event.type == "hello" and last_id is None:
                            last_id = _greeted(event)
                        yield event
                        if event.type == "end":
                            return
                    if response.status == 204:
                        return
            except (Unreachable, Interrupted) as error:
                lost = error
            except ApiError as error:
                if error.status != 503:
                    raise
                lost = error
            if not connected:
                raise lost
            now = monotonic()
            give_up_at = give_up_at or now + patience_s
            if on_lost is not None and not lost_reported:
                lost_reported = True
                on_lost(lost)
            if now + pause_s > give_up_at:
                raise lost
            sleep(pause_s)
            pause_s = min(2.0, pause_s * 2)

    def _once(self, method: str, url: str, body: Any, headers: dict[str, str], wait_s: float) -> Reply:
        connection, self._connection = self._connection, None
        if connection is not None and connection.is_stale():
            connection.close()
            connection = None
        if connection is None:
            connection = self._new_connection(self.timeout_s)
            self._connect(connection)
        connection.wait_at_most(self.timeout_s + wait_s)
        keep = False
        try:
            payload = None if body is None else json.dumps(body, allow_nan=False).encode()
            response = self._exchange(connection, method, url, payload, headers)
            content = self._read(response)
            keep = not response.will_close
        finally:
            if keep:
                self._connection = connection
            else:
                connection.close()
        if response.status >= 400:
            raise _api_error(response.status, response.reason, content)
        return Reply(status=response.status, headers=response.headers, body=content)

    def _new_connection(self, timeout_s: float) -> Connection:
        if self.target.path is not None:
            return Connection(self.target.path, timeout_s=timeout_s)
        target = self.target
        return Connection(host=target.host, port=target.port, tls=target.tls, timeout_s=timeout_s)

    def _connect(self, connection: Connection) -> None:
        try:
            connection.connect()
        except FileNotFoundError:
            raise Unreachable(self.target, "no such file") from None
        except PermissionError:
            hint = "its owner, or a member of its group, may use it; leptonctl doctor looks further"
            raise Unreachable(self.target, "permission denied", hint) from None
        except TimeoutError:
            raise Unreachable(self.target, f"no answer within {self.timeout_s:g} s") from None
        except OSError as error:
            raise Unreachable(self.target, (error.strerror or str(error)).lower()) from None

    def _exchange(
        self,
        connection: Connection,
        method: str,
        url: str,
        payload: bytes | None,
        headers: dict[str, str],
    ) -> Answer:
        headers = {"Accept": "application/json", "User-Agent": "leptonctl", **headers}
        if payload is not None:
            headers["Content-Type"] = "application/json"
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        began = monotonic()
        try:
            response = connection.exchange(method, url, payload, headers)
        except TimeoutError:
            raise Interrupted(self.target, f"no answer within {self.timeout_s:g} s") from None
        except (OSError, BadAnswer) as error:
            raise Interrupted(self.target, str(error) or type(error).__name__) from None
        if self._trace is not None:
            took_ms = (monotonic() - began) * 1000
            self._trace(f"{method} {self.target}{url} -> {response.status} ({took_ms:.0f} ms)")
        return response

    def _read(self, response: Answer) -> bytes:
        try:
            return response.read()
        except (OSError, BadAnswer) as error:
            raise Interrupted(self.target, str(error) or type(error).__name__) from None


def _url(path: str, query: Mapping[str, Any] | None) -> str:
    pairs = [(key, value) for key, value in (query or {}).items() if value is not None]
    if not pairs:
        return path
    from urllib.parse import urlencode

    return f"{path}?{urlencode(pairs, doseq=True)}"


def _greeted(event: ServerEvent) -> str | None:
    """The id that a stream begins after: what happens before its first event is then not missed."""
    data = event.json()
    last = data.get("last_event_id") if isinstance(data, dict) else None
    return None if last is None else str(last)


def _lines(response: Answer) -> Iterator[bytes]:
    """The lines of a body as they come; ends when the connection does."""
    while True:
        try:
            line = response.read_line()
        except (OSError, BadAnswer, ValueError):
            return
        if not line:
            return
        yield line


def _api_error(status: int, reason: str, content: bytes) -> ApiError:
    try:
        problem = json.loads(content)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        text = content[:200].decode("utf-8", "replace").strip()
        detail = f"HTTP {status} {reason}" + (f": {text}" if text else "")
        problem = {"type": "about:blank", "title": reason or "The request failed", "detail": detail}
    if status == 401:
        # the daemon's own advice is for curl
        where = token_file(os.environ)
        problem["hint"] = f"set LEPTOND_TOKEN to the daemon's token, or put it into {where}"
    return ApiError({**problem, "status": status})
