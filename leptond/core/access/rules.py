"""The rules of an installation: which account has which role, and whose jobs are shown to whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from leptond.base.section import Section
from leptond.core.access.caller import Caller
from leptond.core.access.roles import Role
from leptond.core.access.visible import Visible

Visibility = Literal["private", "project", "all"]
"""Who sees all of a job beside its owner: nobody, the members of its project, or everybody."""

SocketRole = Literal["viewer", "user"]


class ProjectRules(Section, frozen=True, kw_only=True):
    """The rules of one project. `members`: accounts, and groups as ``@group``; without any, the members of
    the system's group of the project's name."""

    visibility: Visibility = "project"
    members: Sequence[str] = []


class AccessRules(Section, frozen=True, kw_only=True):
    """Who may do what (docs/access.md). `default_role` (`viewer` or `user`) is that of every account that may
    use the socket; `viewers`, `operators` and `admins` name accounts, and groups as `@group`, with another;
    root and the daemon's own account are administrators. `visibility`: who sees all of a job, beside its
    owner: nobody (`private`), the members of its project (`project`), or everybody (`all`); all see its id,
    user, state, GPUs and times. `projects`: for single projects, as `{NAME = {visibility, members}}`.
    `token_max_s`: the longest life of a token."""

    default_role: SocketRole = "user"
    viewers: Sequence[str] = []
    operators: Sequence[str] = []
    admins: Sequence[str] = msgspec.field(default_factory=lambda: ["@leptond-admin"])
    visibility: Visibility = "private"
    projects: Mapping[str, ProjectRules] = {}
    token_max_s: float = 365 * 86400.0

    def role_of(self, user: str, groups: frozenset[str]) -> Role:
        """Return the role of an account by its name and the names of its groups; the highest that fits.

        >>> rules = AccessRules(operators=["bo"], viewers=["@guests"])
        >>> [str(rules.role_of(*one)) for one in (("bo", frozenset()), ("cy", frozenset({"guests"})))]
        ['operator', 'viewer']
        """
        for role, names in (
            (Role.ADMIN, self.admins),
            (Role.OPERATOR, self.operators),
            (Role.VIEWER, self.viewers),
        ):
            if _is_one_of(names, user, groups):
                return role
        return Role(self.default_role)

    def visible_to(self, caller: Caller) -> Visible:
        """Return which jobs a caller sees in full."""
        if caller.admin:
            return Visible(user=caller.user, everything=True)
        shown, hidden = set(), set()
        for name, project in self.projects.items():
            members = project.members or [f"@{name}"]
            open_to_all = project.visibility == "all"
            if open_to_all or (
                project.visibility == "project" and _is_one_of(members, caller.user, caller.groups)
            ):
                shown.add(name)
            else:
                hidden.add(name)
        if self.visibility == "project":
            shown |= caller.groups - hidden
        return Visible(
            user=caller.user,
            others=self.visibility == "all",
            shown=frozenset(shown),
            hidden=frozenset(hidden),
        )


def _is_one_of(names: Sequence[str], user: str, groups: frozenset[str]) -> bool:
    return user in names or any(name.startswith("@") and name[1:] in groups for name in names)
