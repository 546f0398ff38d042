"""Callers for tests: with all rights, and in place of whom the kernel names."""

from __future__ import annotations

from typing import Any

from leptond.core.access.caller import Caller
from leptond.core.access.rights import Rights
from leptond.core.access.roles import Role
from leptond.core.access.visible import Visible

EVERYTHING = Rights(
    caller=Caller(user="root", uid=0, role=Role.ADMIN), visible=Visible(user="root", everything=True)
)


def person(user: str, uid: int = 4242, role: Role = Role.USER, **more: Any) -> Caller:
    """A caller of an account."""
    return Caller(user=user, uid=uid, role=role, **more)


def as_caller(monkeypatch: Any, context: Any, caller: Caller) -> None:
    """Let all requests over the Unix socket come from `caller`."""
    identities = context.identities

    async def of_peer(request: Any, at: Any) -> Rights:
        return identities.rights_of(caller)

    monkeypatch.setattr(identities, "of_peer", of_peer)
