"""A caller of the API, and what it may do."""

from __future__ import annotations

import msgspec

from leptond.base.errors import Forbidden
from leptond.core.jobs.model import Job


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """A caller. `uid` is None over TCP where the token stands for the daemon's own user; `read_only`: it
    is a token that only looks."""

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

    def must_submit(self, daemon_uid: int) -> None:
        """Raises Forbidden where the job would get rights that its submitter does not have."""
        if daemon_uid == 0 and self.uid not in (0, None):
            raise Forbidden(
                "this daemon runs as root, and so would your job",
                hint="let leptond run as a user of its own; see systemd/leptond.service",
            )
