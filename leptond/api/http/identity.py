"""Identity of callers, resolved in one place: the account at the other end of a Unix socket, as the kernel
reports it, with the job that its process belongs to; or the bearer of a token or of a session."""

from __future__ import annotations

import grp
import hmac
import os
import pwd
import socket
import stat
import struct
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web
from msgspec.structs import replace

from leptond.base.errors import Forbidden
from leptond.base.tokens import Tokens
from leptond.core.access.caller import Caller
from leptond.core.access.rights import Rights
from leptond.core.access.roles import Role
from leptond.core.access.rules import AccessRules
from leptond.core.access.visible import Visible
from leptond.services.job_connections import Vanished, job_of
from leptond.services.tokens import TokenRegistry
from leptond.store import Store
from leptond.store.access.tokens import Token

_RequestKey = getattr(web, "RequestKey", None)  # aiohttp 3.14; before, keys are plain texts
RIGHTS: Any = _RequestKey("leptond.rights", Rights) if _RequestKey is not None else "leptond.rights"
"""Key under which a request holds its caller with its rights."""

TOKEN: Any = _RequestKey("leptond.token", Token) if _RequestKey is not None else "leptond.token"
"""Key under which a request holds the token or the session that it came with."""

ACCOUNT_S = 60.0
"""How long what the system says of an account is believed."""

MOST_RIGHTS = 4096
"""Most callers whose rights are kept."""


class Peer(NamedTuple):
    """The process at the other end of a Unix socket, when it connected. `pid` is 0 outside of our PID
    namespace."""

    pid: int
    uid: int


class Account(NamedTuple):
    """An account of this machine."""

    user: str
    uid: int
    groups: frozenset[str]
    gids: frozenset[int]


@lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    """Return the name of an account; ``uid-N`` for an unknown one."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid-{uid}"


def own_user() -> str:
    """Return the name of the daemon's own user."""
    return user_name(os.geteuid())


def peer(request: web.Request) -> Peer | None:
    """Return the process at the other end of a Unix socket; None for any other transport."""
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Peer(pid, uid)


def account_of(user: str) -> Account | None:
    """Return the account of that name; None for none. It is believed for ACCOUNT_S."""
    return _account(user, int(time.monotonic() / ACCOUNT_S))


@lru_cache(maxsize=1024)
def _account(user: str, period: int) -> Account | None:
    try:
        entry = pwd.getpwnam(user)
        gids = frozenset(os.getgrouplist(user, entry.pw_gid))
    except (KeyError, OSError, ValueError):
        return None
    names = set()
    for gid in gids:
        try:
            names.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return Account(user, entry.pw_uid, frozenset(names), gids)


def may_connect(account: Account, path: Path) -> bool:
    """Return True if an account may connect to the Unix socket `path`. A token is worth as much as its
    account at the moment."""
    try:
        found = path.stat()
    except OSError:
        return False
    if account.uid == found.st_uid:
        needed = stat.S_IWUSR
    elif found.st_gid in account.gids:
        needed = stat.S_IWGRP
    else:
        needed = stat.S_IWOTH
    return account.uid == 0 or bool(found.st_mode & needed)


class Identities:
    """Resolves who callers are. `file_tokens`: the daemon's own, None while TCP is off; `registry`: those of
    persons."""

    def __init__(
        self,
        store: Store,
        rules: AccessRules,
        socket_path: Path,
        file_tokens: Tokens | None,
        registry: TokenRegistry,
    ) -> None:
        self._store = store
        self._rules = rules
        self._socket_path = socket_path
        self._file_tokens = file_tokens
        self._registry = registry
        self._rights: dict[Caller, Rights] = {}
        self._own = os.geteuid()

    async def of_peer(self, request: web.Request, at: Peer) -> Rights:
        """Return the caller at the other end of a Unix socket. What is found is believed for ACCOUNT_S on the
        same connection."""
        kept = getattr(request.protocol, "peer_rights", None)
        now = time.monotonic()
        if kept is not None and kept[1] > now:
            found: Rights = kept[0]
            return found
        rights = self.rights_of(await self._caller_at(at))
        request.protocol.peer_rights = (rights, now + ACCOUNT_S)  # type: ignore[attr-defined]
        return rights

    async def _caller_at(self, at: Peer) -> Caller:
        caller = self._local(user_name(at.uid), at.uid)
        try:
            job = await job_of(self._store, at.pid)
        except Vanished:
            # nobody can tell any more whether it was a job's
            return replace(caller, role=caller.role.at_most(Role.USER))
        if job is None:
            return caller
        if at.uid in (0, self._own):
            account = account_of(job.user)
            caller = self._local(job.user, account.uid if account is not None else None)
        return replace(caller, role=caller.role.at_most(Role.USER), job=job.job_id)

    def _local(self, user: str, uid: int | None) -> Caller:
        account = account_of(user)
        groups = account.groups if account is not None and account.uid == uid else frozenset()
        role = Role.ADMIN if uid in (0, self._own) else self._rules.role_of(user, groups)
        return Caller(user=user, uid=uid, role=role, groups=groups)

    def rights_of(self, caller: Caller, seen_as: Caller | None = None) -> Rights:
        """Return the rights of a caller; with `seen_as`, it sees what that one does."""
        found = self._rights.get(caller) if seen_as is None else None
        if found is None:
            found = Rights(caller=caller, visible=self._rules.visible_to(seen_as or caller))
            if seen_as is None:
                if len(self._rights) >= MOST_RIGHTS:
                    self._rights.clear()
                self._rights[caller] = found
        return found

    def of_account(self, user: str, uid: int | None) -> Rights:
        """Return the rights that an account has at a login."""
        return self.rights_of(self._local(user, uid))

    def on_behalf_of(self, user: str) -> Rights:
        """Return the rights of the person for whom an administrator submits. Raises Forbidden for root."""
        account = account_of(user)
        if account is not None and account.uid == 0:
            raise Forbidden("nobody submits for root", hint="submit as root, from a login of root's")
        caller = self._local(user, account.uid if account is not None else None)
        return self.rights_of(replace(caller, role=Role.USER))

    def of_file_token(self, secret: str) -> Rights | None:
        """Return the rights that the daemon's own tokens give; None for any other secret."""
        tokens = self._file_tokens
        if tokens is None:
            return None
        me = self._local(own_user(), self._own)
        if _same(secret, tokens.full):
            return self.rights_of(me)
        if _same(secret, tokens.read_only):
            return Rights(
                caller=replace(me, role=Role.VIEWER), visible=Visible(user=me.user, everything=True)
            )
        return None

    def of_secret(self, secret: str) -> tuple[Rights, Token] | None:
        """Return the rights of the bearer of a token or a session; None for one that is not valid. Raises
        Forbidden where its account may not use the queue any more."""
        token = self._registry.find(secret)
        return (self.of_token(token), token) if token is not None else None

    def of_token(self, token: Token) -> Rights:
        """Return the rights that a token gives now: never more than its account has. Raises Forbidden."""
        if token.uid is None:
            caller = Caller(user=token.user, uid=None, role=token.role)
            return self.rights_of(caller)
        account = account_of(token.user)
        if account is None or account.uid != token.uid or not may_connect(account, self._socket_path):
            raise Forbidden(
                f"{token.user} may not use this queue any more",
                hint="become a member of its group (usually leptond)",
            )
        caller = self._local(account.user, account.uid)
        return self.rights_of(replace(caller, role=caller.role.at_most(token.role)), seen_as=caller)


def _same(token: str, expected: str) -> bool:
    return hmac.compare_digest(token.encode("utf-8", "replace"), expected.encode())
