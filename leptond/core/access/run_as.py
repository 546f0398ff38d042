"""Whose rights jobs have: the modes, and who may run jobs as whom. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from leptond.base.errors import Forbidden
from leptond.base.section import Section

Mode = Literal["service-user", "multi-user"]

NOBODY = frozenset({65534, 2**32 - 1})
"""The uid that the kernel shows for one that it cannot map, and the one that stands for none."""

NAMELESS = "uid-"
"""The beginning of the name of a caller whose uid has no account."""


class AccountSettings(Section, frozen=True, kw_only=True):
    """Whose rights jobs have. `mode`: `service-user` runs every job as the daemon's own user, for people who
    trust each other; `multi-user` runs each as its submitter (docs/operations.md, A box shared by people),
    and needs a daemon that runs as root. The other keys count in multi-user alone. `allow_root_jobs`:
    jobs of root may run, as root. `min_uid`: accounts below it have no jobs. `denied_users`: names of
    accounts that have none. `no_new_privileges`: programs of jobs gain no rights by files that are setuid
    (sudo, mount). `umask`: that of jobs, in octal digits. `max_processes`: processes and threads of one
    account, counted by the kernel over all that it runs (0: no limit but the daemon's own)."""

    mode: Mode = "service-user"
    allow_root_jobs: bool = False
    min_uid: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 1000
    denied_users: Sequence[str] = []
    no_new_privileges: bool = True
    umask: Annotated[str, Meta(pattern=r"^0?[0-7]{3}\Z")] = "077"
    max_processes: Annotated[int, Meta(ge=0, le=4_194_304)] = 0

    @property
    def multi_user(self) -> bool:
        """True if each job runs as its submitter."""
        return self.mode == "multi-user"


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The reason that jobs of an account do not run, and what to do about it."""

    why: str
    hint: str


def refusal(settings: AccountSettings, *, uid: int | None, name: str, daemon_uid: int) -> Refusal | None:
    """Return why no job may run for the account `name` with this `uid` (None: it is unknown), or None where
    one may. The same rule counts at the submit and at each start.

    >>> refusal(AccountSettings(mode="multi-user"), uid=0, name="root", daemon_uid=0).why
    'jobs of root do not run on this machine'
    >>> refusal(AccountSettings(mode="multi-user"), uid=1001, name="ada", daemon_uid=0)
    """
    if not settings.multi_user:
        if daemon_uid == 0 and uid != 0:
            return Refusal(
                why="this daemon runs as root, and so would your job",
                hint='let jobs run as their submitters (accounts.mode = "multi-user"), or leptond as a user'
                " of its own; see docs/operations.md",
            )
        return None
    if uid is None or uid in NOBODY or name.startswith(NAMELESS) or not name:
        return Refusal(
            why="jobs run as their submitters here, and this submitter has no account on this machine",
            hint="submit through the Unix socket, from an account of this machine",
        )
    if uid == 0 and not settings.allow_root_jobs:
        return Refusal(
            why="jobs of root do not run on this machine",
            hint="submit from an account of your own; accounts.allow_root_jobs permits them",
        )
    if uid == 0:
        return None
    if uid == daemon_uid:
        return Refusal(
            why=f"{name} is the daemon's own account, which would let its jobs into the daemon",
            hint="submit from an account of your own",
        )
    if name in settings.denied_users:
        return Refusal(
            why=f"the account {name} may not run jobs",
            hint="the setting accounts.denied_users names it",
        )
    if uid < settings.min_uid:
        return Refusal(
            why=f"{name} (uid {uid}) is an account of the system",
            hint=f"accounts below uid {settings.min_uid} have no jobs: accounts.min_uid",
        )
    return None


def must_run(settings: AccountSettings, *, uid: int | None, name: str, daemon_uid: int) -> None:
    """Raises Forbidden where :func:`refusal` has a reason."""
    found = refusal(settings, uid=uid, name=name, daemon_uid=daemon_uid)
    if found is not None:
        raise Forbidden(found.why, hint=found.hint)


def protection(settings: AccountSettings, daemon_uid: int) -> str:
    """Return a sentence for people: as whom jobs run, and from what that protects them.

    >>> protection(AccountSettings(mode="multi-user"), 0)
    'multi-user: each job runs as its submitter, and users are protected from each other'
    """
    if settings.multi_user:
        return "multi-user: each job runs as its submitter, and users are protected from each other"
    if daemon_uid == 0:
        return "service-user: every job runs as root, and only root may submit"
    return (
        "service-user: every job runs as the daemon's own user; users of this queue are not protected from"
        " each other, nor the queue from its jobs"
    )
