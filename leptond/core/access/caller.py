"""A caller of the API: an account of this machine, the bearer of a token, or a job."""

from __future__ import annotations

import msgspec

from leptond.base.errors import Forbidden
from leptond.core.access.roles import Role
from leptond.core.jobs.model import Job


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

    def must_own(self, job: Job) -> None:
        """Raises Forbidden unless the job is the caller's, or the caller an admin."""
        self.must_be(job.user, f"job {job.ref}")

    def must_be(self, user: str, what: str) -> None:
        """Raises Forbidden unless the caller is `user`, whose `what` is, or an admin."""
        if not self.admin and user != self.user:
            raise Forbidden(f"{what} belongs to {user}", hint="only its owner or an admin may change a job")

    def must_be_admin(self) -> None:
        """Raises Forbidden unless the caller is an administrator."""
        if not self.admin:
            raise Forbidden("only the daemon's own user and root may do this")
