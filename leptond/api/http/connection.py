"""Connections: who may have how many, the deadline for the head of a request, and what clients do wrong,
counted.

aiohttp has none of these. A user who opens many connections shuts out nobody but himself: each user has a
share, and root and the daemon's own user have some that no other can take. Requests that wait and streams are
counted apart from those that are being answered."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import struct
from collections import Counter
from typing import Any, NamedTuple

import msgspec
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from leptond import schema

log = structlog.get_logger("leptond.http")

HEADER_S = 5.0
"""Seconds that the head of a request may take to arrive."""

BLOCKED_S = 30.0
"""Seconds after which a client that does not read its answer is dropped."""

FAULTS_S = 60.0
"""Seconds of what clients did wrong that one line of the log sums up."""

TCP = -1
"""Stands for the user of a connection over TCP, which the kernel does not tell."""

RETRY_S = 2


class Caps(NamedTuple):
    """Most connections. `active`: that are being answered, or are idle; `of_one`: of those, of one user;
    `reserve`: beyond them for root, and as many for the daemon's own user; `waits` and `waits_of_one`:
    requests that wait, and streams; `refusals`: connections that are told to come back later (others are
    closed without a
    word)."""

    active: int = 512
    of_one: int = 128
    reserve: int = 32
    waits: int = 4096
    waits_of_one: int = 1024
    refusals: int = 64

    @classmethod
    def of_process(cls) -> Caps:
        """Return the caps that the limit of open files allows."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = max(192, (soft if soft != resource.RLIM_INFINITY else 1 << 20) - 256)
        most = cls()
        active, waits = min(most.active, room // 3), min(most.waits, room // 2)
        return most._replace(
            active=active,
            of_one=min(most.of_one, active // 2),
            waits=waits,
            waits_of_one=min(most.waits_of_one, max(waits // 2, min(waits, 320))),
            refusals=min(most.refusals, room // 16),
        )


class ClientFaults:
    """What clients did wrong, which is counted, and summed up in one line of the log at a time."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self.total: Counter[str] = Counter()

    def note(self, what: str) -> None:
        """Count a fault: `malformed` (no HTTP), `left` (before the answer), `slow` (its head did not come,
        or it does not read its answer), or `refused` (too many connections)."""
        self._counts[what] += 1
        self.total[what] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FAULTS_S, self.report)

    def report(self) -> None:
        """Log what was counted since the last line."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        found, self._counts = self._counts, Counter()
        if found:
            log.warning(
                "http.client_faults",
                malformed=found["malformed"],
                left=found["left"],
                slow=found["slow"],
                refused=found["refused"],
                within_s=FAULTS_S,
            )


class Connections:
    """The open connections of all listeners, by user."""

    def __init__(self, caps: Caps, faults: ClientFaults) -> None:
        self._caps = caps
        self._own = os.geteuid()
        self.faults = faults
        self.active: Counter[int] = Counter()
        self.waiting: Counter[int] = Counter()
        self.refusing = 0
        self._idle: dict[int, dict[Connection, None]] = {}

    def admit(self, uid: int) -> bool:
        """Count one more connection of a user, for which one of the same user's that is idle may have to go;
        False: it is one too many."""
        if self._count(uid):
            return True
        oldest = next(iter(self._idle.get(uid, ())), None)
        if oldest is None:
            return False
        oldest.give_way()
        return self._count(uid)

    def idle(self, uid: int, connection: Connection) -> None:
        """Take note of a connection on which an answer was given, and nothing is asked now."""
        self._idle.setdefault(uid, {})[connection] = None

    def idle_of(self, uid: int) -> list[Connection]:
        """Return the connections of a user on which nothing is asked, the oldest first."""
        return list(self._idle.get(uid, ()))

    def not_idle(self, uid: int, connection: Connection) -> None:
        """Take note that something is asked on it, or that it has ended."""
        own = self._idle.get(uid, {})
        own.pop(connection, None)
        if not own:
            self._idle.pop(uid, None)

    def _count(self, uid: int) -> bool:
        caps, mine = self._caps, self.active[uid]
        if uid in (0, self._own):
            # others can fill all of `active`, but not the reserve
            others = sum(self.active.values()) - mine
            allowed = mine < caps.reserve or (others + mine < caps.active and mine < caps.active)
        else:
            allowed = mine < caps.of_one and sum(self.active.values()) < caps.active
        self.active[uid] += allowed
        return allowed

    def end(self, uid: int) -> None:
        """Count one connection less."""
        self.active[uid] -= 1
        if not self.active[uid]:
            del self.active[uid]

    def begin_wait(self, uid: int) -> bool:
        """Count a connection as one that waits; False: one too many do."""
        caps, privileged = self._caps, uid in (0, self._own)
        most = caps.waits if privileged else caps.waits_of_one
        room = caps.waits + (caps.reserve if privileged else 0)
        if self.waiting[uid] >= most or sum(self.waiting.values()) >= room:
            return False
        self.waiting[uid] += 1
        self.end(uid)
        return True

    def end_wait(self, uid: int) -> None:
        """Count it as one that is being answered again."""
        self.active[uid] += 1
        self.waiting[uid] -= 1
        if not self.waiting[uid]:
            del self.waiting[uid]

    def refuse(self) -> bool:
        """Count a connection that is told to come back later; False: there are too many even of those."""
        self.faults.note("refused")
        if self.refusing >= self._caps.refusals:
            return False
        self.refusing += 1
        return True


def uid_of(transport: asyncio.BaseTransport) -> int:
    """Return the user at the other end of a Unix socket, as the kernel reports it; TCP for any other
    transport."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX:
        return TCP
    uid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
    return uid


def _problem(status: int, slug: str, title: str, detail: str) -> bytes:
    body = schema.Problem(type=f"/problems/{slug}", title=title, status=status, detail=detail)
    return msgspec.json.encode(body)


_BUSY = _problem(
    503, "unavailable", "The daemon is not ready", "too many connections are open; try again in a moment"
)
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"
    b"Retry-After: %d\r\nContent-Length: %d\r\n\r\n%s" % (RETRY_S, len(_BUSY), _BUSY)
)


class _Refusal(asyncio.Protocol):
    """A connection too many: it gets its answer as soon as it has asked (an answer before that would be lost
    with the unread request), and is closed."""

    def __init__(self, transport: asyncio.Transport, connections: Connections, header_s: float) -> None:
        self._transport = transport
        self._connections = connections
        self._deadline = asyncio.get_running_loop().call_later(header_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(REFUSAL)
            self._transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._deadline.cancel()
        self._connections.refusing -= 1


class Connection(web.RequestHandler):
    """Connection with a deadline for the head of each request (`header_s` seconds), for which aiohttp would
    wait for ever."""

    def __init__(
        self,
        manager: Any,
        *,
        loop: asyncio.AbstractEventLoop,
        connections: Connections,
        header_s: float = HEADER_S,
        **options: Any,
    ) -> None:
        super().__init__(manager, loop=loop, **options)
        self._header_s = header_s
        self._connections = connections
        self._deadline: asyncio.TimerHandle | None = None
        self._blocked: asyncio.TimerHandle | None = None
        self._busy = False
        self._waits = False
        self._uid: int | None = None
        self._line: asyncio.Transport | None = None
        self._own_loop = loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        uid = uid_of(transport)
        if not self._connections.admit(uid):
            if self._connections.refuse():
                transport.set_protocol(_Refusal(transport, self._connections, self._header_s))
            else:
                transport.set_protocol(asyncio.Protocol())
                transport.abort()
            return
        self._line, self._uid = transport, uid
        self._arm()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._uid is not None:
            if self._busy and not self._waits:
                self._connections.faults.note("left")
            self.request_ended()
            self._connections.not_idle(self._uid, self)
            self._connections.end(self._uid)
            self._uid = None
        self._disarm()
        self._unblocked()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give a client BLOCKED_S to read more of its answer, which is kept in memory."""
        super().pause_writing()
        self._unblocked()
        self._blocked = self._own_loop.call_later(BLOCKED_S, self._does_not_read)

    def resume_writing(self) -> None:
        """End that deadline, because the client has read."""
        self._unblocked()
        super().resume_writing()

    def _unblocked(self) -> None:
        if self._blocked is not None:
            self._blocked.cancel()
            self._blocked = None

    def _does_not_read(self) -> None:
        self._blocked = None
        if self._line is not None:
            self._connections.faults.note("slow")
            self._line.abort()

    def give_way(self) -> None:
        """End at once, because nothing is asked here and the same user wants another connection."""
        if self._line is not None and self._uid is not None:
            self._connections.not_idle(self._uid, self)
            self._connections.end(self._uid)
            self._uid = None
            self._line.abort()

    def data_received(self, data: bytes) -> None:
        if self._uid is not None:
            self._connections.not_idle(self._uid, self)
        if not self._busy and self._deadline is None:
            self._arm()  # the first bytes of a further request on a kept connection
        super().data_received(data)

    def request_began(self) -> None:
        """End the deadline, because the head is complete and the request's own limit holds."""
        self._busy = True
        self._disarm()

    @property
    def busy(self) -> bool:
        """True while a request is being answered."""
        return self._busy

    def wait_began(self) -> bool:
        """Count the connection as one that waits; False: too many do."""
        self._waits = self._uid is None or self._connections.begin_wait(self._uid)
        return self._waits

    def request_ended(self) -> None:
        """Wait for the next request, without a deadline until its first bytes."""
        self._busy = False
        if self._uid is not None:
            if self._waits:
                self._connections.end_wait(self._uid)
            self._connections.idle(self._uid, self)
        self._waits = False

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, and end requests whose client has left. Other errors are faults of
        leptond."""
        if isinstance(exc, ConnectionError):
            raise exc  # nobody is there to be answered: aiohttp ends the connection
        if isinstance(exc, UnicodeEncodeError):
            status = 400  # aiohttp repeats a header in an answer of its own, and cannot encode it
        if isinstance(exc, (HttpProcessingError, UnicodeEncodeError)):
            self._connections.faults.note("malformed")
            body = _problem(status, "bad-request", "The request cannot be read", "this is not HTTP")
        else:
            log.error("http.request_failed", method=request.method, path=request.path, exc_info=exc)
            body = _problem(status, "internal-error", "The request was refused", "leptond failed to answer")
        response = web.Response(status=status, body=body, content_type="application/problem+json")
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log a fault that aiohttp found, unless the client has only left."""
        error = kw.get("exc_info")
        if isinstance(error, (ConnectionError, HttpProcessingError)):
            self._connections.faults.note("malformed" if isinstance(error, HttpProcessingError) else "left")
            return
        log.error("http.connection_failed", error=str(args[0] % args[1:] if args else ""), exc_info=error)

    def _arm(self) -> None:
        self._deadline = self._own_loop.call_later(self._header_s, self._too_late)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self._line is not None and not self._busy:
            self._connections.faults.note("slow")
            self._line.abort()
