"""Roles: what a caller may do, in four steps that each include the one before."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """A role. `viewer` looks; `user` also submits and changes its own jobs; `operator` also stops and orders
    the jobs of others and takes GPUs out of service; `admin` may do everything.

    >>> Role.USER.covers(Role.VIEWER), Role.USER.covers(Role.OPERATOR)
    (True, False)
    """

    VIEWER = "viewer"
    USER = "user"
    OPERATOR = "operator"
    ADMIN = "admin"

    def covers(self, other: Role) -> bool:
        """Return True if this role may do all that `other` may."""
        return _RANKS[self] >= _RANKS[other]

    def at_most(self, other: Role) -> Role:
        """Return the lesser of the two."""
        return self if other.covers(self) else other


_RANKS = {role: rank for rank, role in enumerate(Role)}
