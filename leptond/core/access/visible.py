"""Which jobs somebody sees in full, as a value: for single jobs, and as a condition of a query."""

from __future__ import annotations

import msgspec


class Visible(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs that are seen in full: those of `user`, those of the projects in `shown`, and, with `others`, all
    that are in none of the projects in `hidden`. With `everything` all."""

    user: str
    everything: bool = False
    others: bool = False
    shown: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()

    def shows(self, user: str, project: str | None) -> bool:
        """Return True for a job of `user` in `project`.

        >>> mine = Visible(user="ana", shown=frozenset({"vision"}))
        >>> mine.shows("ana", None), mine.shows("bo", "vision"), mine.shows("bo", None)
        (True, True, False)
        """
        if self.everything or user == self.user:
            return True
        if project is not None and project in self.shown:
            return True
        return self.others and (project is None or project not in self.hidden)
