"""Problem details (RFC 9457)."""

from __future__ import annotations

import msgspec


class ProblemError(msgspec.Struct, kw_only=True):
    pointer: str
    message: str


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """RFC 9457. `hint` says what to do next; `errors` point into the request body (RFC 6901)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    hint: str | None = None
    errors: list[ProblemError] = []
