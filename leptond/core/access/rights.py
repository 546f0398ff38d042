"""The rights of a caller to single jobs and arrays: what is seen of them, and who may change them."""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum

import msgspec

from leptond.base.errors import Forbidden
from leptond.core.access.caller import Caller
from leptond.core.access.roles import Role
from leptond.core.access.visible import Visible
from leptond.core.jobs.missing import no_such_array, no_such_job

OPERATORS_EDIT = frozenset({"priority", "queue"})
"""Fields of the jobs of others that an operator may change."""


class Sight(IntEnum):
    """How much of a job is seen. `OUTLINE`: its id, user, state, GPUs and times; `DETAILS`: also its name,
    its place in the queue and how it ended, not its command or its output; `ALL`: everything."""

    OUTLINE = 0
    DETAILS = 1
    ALL = 2


class Rights(msgspec.Struct, frozen=True, kw_only=True):
    """What `caller` may see and change; `visible`: the jobs that it sees in full."""

    caller: Caller
    visible: Visible

    @property
    def sees_everything(self) -> bool:
        """True if all jobs are seen in full."""
        return self.visible.everything

    def sight(self, user: str, project: str | None) -> Sight:
        """Return how much is seen of a job of `user` in `project`."""
        if self.visible.shows(user, project):
            return Sight.ALL
        return Sight.DETAILS if self.caller.role.covers(Role.OPERATOR) else Sight.OUTLINE

    def must_see(self, user: str, project: str | None, ref: str, least: Sight = Sight.DETAILS) -> None:
        """Raises NotFound for a job of which no more than the outline is seen, in the words of one that does
        not exist; Forbidden for one of which less than `least` is seen."""
        seen = self.sight(user, project)
        if seen is Sight.OUTLINE:
            raise no_such_job(ref)
        if seen < least:
            raise Forbidden(
                f"job {ref} belongs to {user}, and its command and output are not for operators",
                hint="ask its owner, or an administrator",
            )

    def must_change(self, user: str, project: str | None, ref: str, *, operators: bool = False) -> None:
        """Raises NotFound or Forbidden unless the job is the caller's, or the caller an administrator, or,
        with `operators`, an operator."""
        if self.sight(user, project) is Sight.OUTLINE:
            raise no_such_job(ref)
        self._must_own(user, f"job {ref}", operators=operators)

    def must_change_array(
        self, user: str, project: str | None, array_id: int, *, operators: bool = False
    ) -> None:
        """As :meth:`must_change`, for an array."""
        if self.sight(user, project) is Sight.OUTLINE:
            raise no_such_array(array_id)
        self._must_own(user, f"array {array_id}", operators=operators)

    def _must_own(self, user: str, what: str, *, operators: bool) -> None:
        if user == self.caller.user or self.caller.admin:
            return
        if not (operators and self.caller.role.covers(Role.OPERATOR)):
            raise Forbidden(f"{what} belongs to {user}", hint="only its owner or an admin may change a job")

    def must_edit(self, user: str, ref: str, fields: Collection[str]) -> None:
        """Raises Forbidden where an operator would change more of the job of another than its place in the
        queue."""
        more = set(fields) - OPERATORS_EDIT
        if more and user != self.caller.user and not self.caller.admin:
            raise Forbidden(
                f"job {ref} belongs to {user}: an operator may change its priority and its queue, not"
                f" {', '.join(sorted(more))}",
                hint="ask its owner, or an administrator",
            )
