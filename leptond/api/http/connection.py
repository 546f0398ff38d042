"""Connections: who may have how many, the deadline for the head of a request, and what clients do wrong,
counted.

aiohttp has none of these. A user who opens many connections shuts out nobody but himself: each user has a
share, and root and the daemon's own user have some that no other can take. Requests that wait and streams are
counted apart from those that are being answered."""

from __future__ import annotations

import asyncio
import ipaddress
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

Holder = int | str
"""Who has a connection: the user of a Unix socket, or, over TCP, where the kernel tells no user, the address
(of IPv6 its network, of which one host has all addresses)."""

IPV6_NETWORK = 64
"""Bits of the addresses that one host on IPv6 usually has to itself."""

RETRY_S = 2


class Caps(NamedTuple):
    """Most connections. `active`: that are being answered, or are idle; `of_one`: of those, of one user, or
    of all addresses together; `of_address`: of one address; `reserve`: beyond them for root, and as many for
    the daemon's own user; `waits` and `waits_of_one`: requests that wait, and streams (an address may have as
    large a part of them as of the others); `refusals`: connections that are told to come back later (others
    are closed without a word)."""

    active: int = 512
    of_one: int = 128
    of_address: int = 48
    reserve: int = 32
    waits: int = 4096
    waits_of_one: int = 1024
    refusals: int = 64

    @classmethod
    def of_process(cls, *, addresses: bool = True) -> Caps:
        """Return the caps that the limit of open files allows. Without `addresses` one of them may take what
        all may: behind a proxy there is only one."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = max(192, (soft if soft != resource.RLIM_INFINITY else 1 << 20) - 256)
        most = cls()
        active, waits = min(most.active, room // 3), min(most.waits, room // 2)
        of_one = min(most.of_one, active // 2)
        return most._replace(
            active=active,
            of_one=of_one,
            of_address=of_one * most.of_address // most.of_one if addresses else of_one,
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
        self.active: Counter[Holder] = Counter()
        self.waiting: Counter[Holder] = Counter()
        self.refusing = 0
        self._idle: dict[Holder, dict[Connection, None]] = {}

    def admit(self, holder: Holder) -> bool:
        """Count one more connection of a user, for which one of the same user's that is idle may have to go;
        False: it is one too many."""
        if self._count(holder):
            return True
        oldest = next(iter(self._idle.get(holder, ())), None)
        if oldest is None:
            return False
        oldest.give_way()
        return self._count(holder)

    def idle(self, holder: Holder, connection: Connection) -> None:
        """Take note of a connection on which an answer was given, and nothing is asked now."""
        self._idle.setdefault(holder, {})[connection] = None

    def idle_of(self, holder: Holder) -> list[Connection]:
        """Return the connections of a user on which nothing is asked, the oldest first."""
        return list(self._idle.get(holder, ()))

    def not_idle(self, holder: Holder, connection: Connection) -> None:
        """Take note that something is asked on it, or that it has ended."""
        own = self._idle.get(holder, {})
        own.pop(connection, None)
        if not own:
            self._idle.pop(holder, None)

    def _count(self, holder: Holder) -> bool:
        caps, mine = self._caps, self.active[holder]
        if holder in (0, self._own):
            # others can fill all of `active`, but not the reserve
            others = sum(self.active.values()) - mine
            allowed = mine < caps.reserve or (others + mine < caps.active and mine < caps.active)
        else:
            allowed = self._may_have_one_more(self.active, holder, caps.of_one) and (
                sum(self.active.values()) < caps.active
            )
        self.active[holder] += allowed
        return allowed

    def _may_have_one_more(self, counts: Counter[Holder], holder: Holder, most: int) -> bool:
        if isinstance(holder, int):
            return counts[holder] < most
        of_all = sum(count for one, count in counts.items() if isinstance(one, str))
        return of_all < most and counts[holder] < -(-most * self._caps.of_address // self._caps.of_one)

    def end(self, holder: Holder) -> None:
        """Count one connection less."""
        self.active[holder] -= 1
        if not self.active[holder]:
            del self.active[holder]

    def begin_wait(self, holder: Holder) -> bool:
        """Count a connection as one that waits; False: one too many do."""
        caps, privileged = self._caps, holder in (0, self._own)
        most = caps.waits if privileged else caps.waits_of_one
        room = caps.waits + (caps.reserve if privileged else 0)
        if not self._may_have_one_more(self.waiting, holder, most) or sum(self.waiting.values()) >= room:
            return False
        self.waiting[holder] += 1
        self.end(holder)
        return True

    def end_wait(self, holder: Holder) -> None:
        """Count it as one that is being answered again."""
        self.active[holder] += 1
        self.waiting[holder] -= 1
        if not self.waiting[holder]:
            del self.waiting[holder]

    def refuse(self) -> bool:
        """Count a connection that is told to come back later; False: there are too many even of those."""
        self.faults.note("refused")
        if self.refusing >= self._caps.refusals:
            return False
        self.refusing += 1
        return True


def holder_of(transport: asyncio.BaseTransport) -> Holder:
    """Return who is at the other end: of a Unix socket the user, as the kernel reports it, else the
    address."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        uid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        return uid
    try:
        address = ipaddress.ip_address(transport.get_extra_info("peername")[0].partition("%")[0])
    except (TypeError, ValueError):
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, IPV6_NETWORK), strict=False))
    return str(address)


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
        self._holder: Holder | None = None
        self._line: asyncio.Transport | None = None
        self._own_loop = loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        holder = holder_of(transport)
        if not self._connections.admit(holder):
            if self._connections.refuse():
                transport.set_protocol(_Refusal(transport, self._connections, self._header_s))
            else:
                transport.set_protocol(asyncio.Protocol())
                transport.abort()
            return
        self._line, self._holder = transport, holder
        self._arm()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._holder is not None:
            if self._busy and not self._waits:
                self._connections.faults.note("left")
            self.request_ended()
            self._connections.not_idle(self._holder, self)
            self._connections.end(self._holder)
            self._holder = None
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
        if self._line is not None and self._holder is not None:
            self._connections.not_idle(self._holder, self)
            self._connections.end(self._holder)
            self._holder = None
            self._line.abort()

    def data_received(self, data: bytes) -> None:
        if self._holder is not None:
            self._connections.not_idle(self._holder, self)
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
        self._waits = self._holder is None or self._connections.begin_wait(self._holder)
        return self._waits

    def request_ended(self) -> None:
        """Wait for the next request, without a deadline until its first bytes."""
        self._busy = False
        if self._holder is not None:
            if self._waits:
                self._connections.end_wait(self._holder)
            self._connections.idle(self._holder, self)
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
