"""Tokens of persons, and signing in to the page."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from leptond.core.access.roles import Role

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._@-]{0,127}\Z")]
_Secret = Annotated[str, Meta(min_length=1, max_length=512)]


class Token(msgspec.Struct, kw_only=True):
    """A token or a session. `id` names it in a revoke; `uid` is null for a person without an account on this
    machine. Its secret was told once and is stored nowhere."""

    id: str
    kind: Literal["token", "session"]
    name: str
    user: str
    uid: int | None
    role: Role
    made_by: str
    made_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None


class TokenList(msgspec.Struct, kw_only=True):
    items: list[Token]


class NewToken(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A token for `user` (without it: the caller), which acts with `role` at most (without it: with the
    caller's, but no more than `user`), for `lifetime_s` seconds (90 days). Only an administrator makes one
    for another."""

    name: Name
    user: Name | None = None
    role: Role | None = None
    lifetime_s: Annotated[float, Meta(gt=0, le=1e10)] | None = None


class MadeToken(msgspec.Struct, kw_only=True):
    """A new token. `secret` is told in this answer only."""

    token: Token
    secret: str


class SignIn(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What signs in to the page: the code of a link of ``leptonctl dashboard``, or a token."""

    code: _Secret | None = None
    token: _Secret | None = None


class SignedIn(msgspec.Struct, kw_only=True):
    """A session. `key` goes into the header X-Leptond-Session of each request, beside the cookie that the
    answer sets."""

    key: str
    user: str
    role: Role
    expires_at: datetime
