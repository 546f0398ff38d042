"""A caller of the API: an account of this machine, the bearer of a token, or a job."""

from __future__ import annotations

import msgspec

from leptond.core.access.roles import Role


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """A caller, as the kernel or its token identifies it, never as it says itself. `user`: name of its
    account, which owns what it submits; `uid`: that of the account, None for a name without one on this
    machine; `groups`: names of the account's groups; `job`: id of the job whose process it is."""

    user: str
    uid: int | None
    role: Role
    groups: frozenset[str] = frozenset()
    job: int | None = None

    @property
    def admin(self) -> bool:
        """True for an administrator."""
        return self.role is Role.ADMIN

    @property
    def read_only(self) -> bool:
        """True for a caller that may change nothing."""
        return self.role is Role.VIEWER
