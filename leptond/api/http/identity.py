"""Who is calling: the peer of a Unix socket, by the kernel's word, or the bearer of the token."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from functools import lru_cache
from typing import Any

import msgspec
from aiohttp import web

from leptond.base.errors import Forbidden
from leptond.core.jobs.model import Job


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """A caller. `uid` is None over TCP, where the token stands for the daemon's own user; `read_only`: it
    is the token that only looks."""

    user: str
    uid: int | None
    admin: bool
    read_only: bool = False

    def must_own(self, job: Job) -> None:
        """Raises Forbidden unless the job is the caller's, or the caller an admin."""
        self.must_be(job.user, f"job {job.ref}")

    def must_be(self, user: str, what: str) -> None:
        """Raises Forbidden unless the caller is `user`, whose `what` is, or an admin."""
        if not self.admin and user != self.user:
            raise Forbidden(f"{what} belongs to {user}", hint="only its owner or an admin may change a job")

    def must_be_admin(self) -> None:
        """Raises Forbidden unless the caller runs the daemon, or is root."""
        if not self.admin:
            raise Forbidden("only the daemon's own user and root may do this")

    def must_submit(self) -> None:
        """Raises Forbidden where the job would get rights that its submitter does not have."""
        if os.geteuid() == 0 and self.uid not in (0, None):
            raise Forbidden(
                "this daemon runs as root, and so would your job",
                hint="let leptond run as a user of its own; see systemd/leptond.service",
            )


_RequestKey = getattr(web, "RequestKey", None)  # aiohttp 3.14; before, keys are plain texts
WHO: Any = _RequestKey("leptond.who", Who) if _RequestKey is not None else "leptond.who"
"""Where a request keeps its caller."""


@lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    """The account's name; ``uid-N`` for one that is not known."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


def own_user() -> str:
    """The daemon's own user."""
    return user_name(os.geteuid())


def peer(request: web.Request) -> Who | None:
    """Who is at the other end of a Unix socket; None for any other transport."""
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Who(user=user_name(uid), uid=uid, admin=uid in (0, os.geteuid()))
