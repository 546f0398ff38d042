"""The datagram sockets at which jobs report, and shims what jobs print.

Where jobs run as their submitters each account has a socket of its own, beside the one of the shims: what one
account sends, and how much, fills no queue of another's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from leptond.base.errors import StartRefused
from leptond.base.unix_sockets import ABOVE, BoundSocket

log = structlog.get_logger("leptond.progress")

MOST_PER_S = 4000
"""Datagrams of one account that are read in one second; others wait in its socket, until that is full. It is
more than twice what 16 ranks send that each report 100 times a second."""

Receive = Callable[[socket.socket], int]
"""Reads what has come to a socket, up to a bound; returns how many datagrams that were."""


class ReportSocket:
    """The datagram socket at `path`; `receive` is called with it when there is something to read. `owner`:
    the account that may send to it, beside root; about `most_per_s` datagrams a second are read then."""

    def __init__(
        self, path: Path, receive: Receive, owner: int | None = None, *, most_per_s: int = MOST_PER_S
    ) -> None:
        self.path = path
        self._owner = owner
        self._receive = receive
        self._most_per_s = most_per_s
        self._bound: BoundSocket | None = None
        self._since = 0.0
        self._read = 0
        self._rest: asyncio.TimerHandle | None = None

    def start(self, *, parents: int) -> None:
        """Start to listen; up to `parents` directories are made. Raises StartRefused."""
        bound = BoundSocket(self.path, socket.SOCK_DGRAM, 0o600, parents=parents)
        if self._owner is not None:
            with contextlib.suppress(OSError):  # gone again: it is made anew
                os.chown(self.path, self._owner, -1, follow_symlinks=False)
        bound.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.close()
        self._bound = bound
        self._listen()

    def _listen(self) -> None:
        self._rest = None
        if self._bound is not None:
            asyncio.get_running_loop().add_reader(self._bound.socket.fileno(), self.read)

    def read(self) -> None:
        """Read what has come."""
        if self._bound is None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._since >= 1.0:
            self._since, self._read = loop.time(), 0
        self._read += self._receive(self._bound.socket)
        if self._owner is not None and self._read >= self._most_per_s and self._rest is None:
            loop.remove_reader(self._bound.socket.fileno())
            self._rest = loop.call_at(self._since + 1.0, self._listen)

    def is_there(self) -> bool:
        """Return True if jobs find it at its path."""
        return self._bound is not None and self._bound.is_there()

    async def make_again(self) -> None:
        """Listen at the path anew; what has come to the former socket is read. Raises StartRefused."""
        self.read()
        self.start(parents=1)

    def close(self) -> None:
        """Stop listening."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._bound is not None:
            asyncio.get_running_loop().remove_reader(self._bound.socket.fileno())
            self._bound.socket.close()
            self._bound = None


class ReportSockets:
    """The sockets at `paths`, of which jobs are given the last one; with `multi_user` each account is given
    one of its own beside that. `listening`: those that are open."""

    def __init__(self, paths: Sequence[Path], *, multi_user: bool = False) -> None:
        self.paths = paths
        self.multi_user = multi_user
        self.listening: list[ReportSocket] = []
        self._of_accounts: dict[int, ReportSocket] = {}
        self._receive: Receive | None = None

    def open(self, receive: Receive) -> None:
        """Start to listen, also at the sockets that accounts were given by an earlier daemon. Raises
        StartRefused."""
        self._receive = receive
        for path in self.paths:
            one = ReportSocket(path, receive)
            one.start(parents=ABOVE)
            self.listening.append(one)
        if self.multi_user:
            for path in sorted(self.paths[-1].parent.glob(f"{self.paths[-1].name}.*")):
                if path.suffix[1:].isdecimal():
                    self.of_account(int(path.suffix[1:]))

    def of_account(self, uid: int | None) -> Path:
        """Return the socket for the jobs of an account (None: that of the daemon), which listens from then
        on."""
        if not self.multi_user or uid is None:
            return self.paths[-1]
        one = self._of_accounts.get(uid)
        if one is None:
            assert self._receive is not None, "no job starts before the sockets are open"
            path = self.paths[-1].with_name(f"{self.paths[-1].name}.{uid}")
            one = self._of_accounts[uid] = ReportSocket(path, self._receive, uid)
            try:
                one.start(parents=1)
            except StartRefused as refusal:  # the watch over sockets tries again
                log.warning("progress.no_socket", uid=uid, error=str(refusal))
            self.listening.append(one)
        return one.path

    def read(self) -> None:
        """Read what has come to the sockets."""
        for one in self.listening:
            one.read()

    def close(self) -> None:
        """Stop listening. The socket files stay for the next daemon; until then senders are refused at
        once."""
        for one in self.listening:
            one.close()
        self.listening.clear()
        self._of_accounts.clear()
