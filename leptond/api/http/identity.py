"""Identity of callers: the peer of a Unix socket, as the kernel reports it, or the bearer of the token."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
import struct
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from aiohttp import web

from leptond.core.access.caller import Caller
from leptond.core.access.roles import Role

_RequestKey = getattr(web, "RequestKey", None)  # aiohttp 3.14; before, keys are plain texts
CALLER: Any = _RequestKey("leptond.caller", Caller) if _RequestKey is not None else "leptond.caller"
"""Key under which a request holds its caller."""


ACCOUNT_S = 60.0
"""How long what the system says of an account is believed."""


@lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    """Return the name of an account; ``uid-N`` for an unknown one."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


def groups_of(uid: int) -> frozenset[str]:
    """Return the names of an account's groups; none for an unknown account."""
    return _groups(uid, int(time.monotonic() / ACCOUNT_S))


@lru_cache(maxsize=1024)
def _groups(uid: int, period: int) -> frozenset[str]:
    found = set()
    try:
        entry = pwd.getpwuid(uid)
        ids = os.getgrouplist(entry.pw_name, entry.pw_gid)
    except (KeyError, OSError):
        return frozenset()
    for gid in ids:
        try:
            found.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return frozenset(found)


def own_user() -> str:
    """Return the name of the daemon's own user."""
    return user_name(os.geteuid())


def peer(request: web.Request) -> Caller | None:
    """Return the caller at the other end of a Unix socket; None for any other transport."""
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    _, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Caller(
        user=user_name(uid),
        uid=uid,
        role=Role.ADMIN if uid in (0, os.geteuid()) else Role.USER,
        groups=groups_of(uid),
    )


@lru_cache(maxsize=1024)
def _account(user: str, period: int) -> tuple[int, frozenset[int]] | None:
    try:
        entry = pwd.getpwnam(user)
        return entry.pw_uid, frozenset(os.getgrouplist(user, entry.pw_gid))
    except (KeyError, OSError):
        return None


def may_connect(user: str, path: Path) -> int | None:
    """Return the uid of `user` if that account may connect to the Unix socket `path`; None if it may not, or
    does not exist. A token of a user is worth as much as the account at the moment."""
    account = _account(user, int(time.monotonic() / ACCOUNT_S))
    if account is None:
        return None
    uid, groups = account
    try:
        found = path.stat()
    except OSError:
        return None
    if uid == found.st_uid:
        needed = stat.S_IWUSR
    elif found.st_gid in groups:
        needed = stat.S_IWGRP
    else:
        needed = stat.S_IWOTH
    return uid if uid == 0 or found.st_mode & needed else None
