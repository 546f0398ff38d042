"""Tokens of persons, and sessions: one function a verb. What goes in and comes out never holds a secret."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from leptond.core.access.roles import Role
from leptond.store.database import events

Kind = Literal["token", "session"]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token of `user`. `id` names it in lists; `sha256` is the digest of its secret, in hex; `uid` is None
    for a person without an account on this machine. Times are UTC seconds."""

    id: str
    kind: Kind
    sha256: str
    name: str
    user: str
    uid: int | None
    role: Role
    made_by: str
    made_at: float
    expires_at: float
    last_used_at: float | None = None


_COLUMNS = Token.__struct_fields__


def every(db: sqlite3.Connection) -> list[Token]:
    """Return all tokens, the oldest first."""
    return [
        msgspec.convert(dict(row), Token) for row in db.execute("SELECT * FROM tokens ORDER BY made_at, id")
    ]


def add(db: sqlite3.Connection, token: Token) -> None:
    """Store a new token."""
    values: dict[str, Any] = {name: getattr(token, name) for name in _COLUMNS}
    values["role"] = str(token.role)
    db.execute(
        f"INSERT INTO tokens ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in _COLUMNS)})",
        values,
    )
    if token.kind == "token":
        events.append(db, token.made_at, "token.made", data=_told(token, by=token.made_by))


def remove(db: sqlite3.Connection, token: Token, by: str, now: float) -> None:
    """Delete a token, because `by` revokes it."""
    db.execute("DELETE FROM tokens WHERE id = ?", (token.id,))
    if token.kind == "token":
        events.append(db, now, "token.revoked", data=_told(token, by=by))


def forget_expired(db: sqlite3.Connection, now: float) -> None:
    """Delete what has expired."""
    db.execute("DELETE FROM tokens WHERE expires_at <= ?", (now,))


def note_uses(db: sqlite3.Connection, used: Mapping[str, float], now: float) -> None:
    """Store when tokens were last used, by id, and delete what has expired."""
    forget_expired(db, now)
    db.executemany(
        "UPDATE tokens SET last_used_at = ? WHERE id = ?", [(at, token_id) for token_id, at in used.items()]
    )


def _told(token: Token, *, by: str) -> dict[str, Any]:
    return {"id": token.id, "name": token.name, "user": token.user, "role": str(token.role), "by": by}
