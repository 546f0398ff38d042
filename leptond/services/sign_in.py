"""Links by which a person signs in to the page: each is good once, for a short time, and is kept in memory
only."""

from __future__ import annotations

import secrets

import msgspec

from leptond.base.clock import Clock
from leptond.core.access.roles import Role
from leptond.services.tokens import digest

LINK_S = 120.0
"""Seconds for which a link is good."""

MOST_OF_ONE = 20
"""Most links of one person at a time; the oldest go."""


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a link signs in, and with which role at most."""

    user: str
    uid: int | None
    role: Role


class SignInLinks:
    """The links that are good now."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[str, tuple[Person, float]] = {}

    def make(self, person: Person) -> str:
        """Return the code of a new link."""
        code, now = secrets.token_urlsafe(32), self._clock.boot()
        for one in [one for one, (_, until) in self._open.items() if until < now]:
            del self._open[one]
        self._open[digest(code)] = (person, now + LINK_S)
        own = [one for one, (whose, _) in self._open.items() if whose.user == person.user]
        for one in own[:-MOST_OF_ONE]:
            del self._open[one]
        return code

    def redeem(self, code: str) -> Person | None:
        """Return whom a code signs in, and make it worthless; None for one that is not good (any more)."""
        found = self._open.pop(digest(code), None)
        if found is None or found[1] < self._clock.boot():
            return None
        return found[0]
