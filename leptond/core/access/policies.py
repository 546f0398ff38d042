"""Policies of routes: what a route needs of its caller before anything else is looked at. Which single jobs a
caller may see and change is decided by :mod:`leptond.core.access.rights`."""

from __future__ import annotations

from enum import StrEnum

from leptond.base.errors import Forbidden
from leptond.core.access.caller import Caller
from leptond.core.access.roles import Role


class Policy(StrEnum):
    """What a route needs. `open`: no identity; `look`: any role; `submit`: may submit; `change`: may change
    jobs, its own unless it is an operator; `operate`: GPUs and the jobs of others; `administer`: all else;
    `person`: tokens and links of one's own, which a job must not get; `sign_in`: the body has
    what identifies."""

    OPEN = "open"
    LOOK = "look"
    SUBMIT = "submit"
    CHANGE = "change"
    OPERATE = "operate"
    ADMINISTER = "administer"
    PERSON = "person"
    SIGN_IN = "sign-in"


NEEDED: dict[Policy, Role | None] = {
    Policy.OPEN: None,
    Policy.LOOK: Role.VIEWER,
    Policy.SUBMIT: Role.USER,
    Policy.CHANGE: Role.USER,
    Policy.OPERATE: Role.OPERATOR,
    Policy.ADMINISTER: Role.ADMIN,
    Policy.PERSON: Role.VIEWER,
    Policy.SIGN_IN: None,
}
"""The least role of each policy; None: nobody is asked who it is."""

NOT_FOR_JOBS = frozenset({Policy.OPERATE, Policy.ADMINISTER, Policy.PERSON})
"""Policies that no connection of a job fulfils, whoever owns the job."""

READING = frozenset({"GET", "HEAD"})
_LOOKING = frozenset({Policy.OPEN, Policy.LOOK})


def fits_method(policy: Policy, method: str) -> bool:
    """Return False for a route that may change something and asks no more than to look.

    >>> fits_method(Policy.LOOK, "DELETE")
    False
    """
    return method in READING or policy not in _LOOKING


def check(policy: Policy, caller: Caller) -> None:
    """Raises Forbidden unless the caller has what the policy needs."""
    needed = NEEDED[policy]
    if needed is None:
        return
    if caller.job is not None and policy in NOT_FOR_JOBS:
        raise Forbidden(
            "a job may not do this, whoever submitted it",
            hint="do it from a login: a job reports, reads and submits as its owner",
        )
    if caller.role.covers(needed):
        return
    if caller.read_only:
        raise Forbidden("this caller only looks", hint="use a login or a token that may change things")
    raise Forbidden(
        f"this needs the role {needed}, and {caller.user} has {caller.role}",
        hint="only administrators may do this: the daemon's own user, root, and those of access.admins"
        if needed is Role.ADMIN
        else "an administrator names operators by access.operators in the configuration",
    )
