"""Owners of waiting jobs: users in queues with projects, found by steps along an index of their own:
the cost is that of the owners, not of their jobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from leptond.core.scheduling.fair_share import UsageOwner
from leptond.store.database.conditions import IS_LIVE, IS_READY

MOST = 64
"""Of more owners than this, one plan considers so many; which ones changes with time."""

INDEX = {True: "jobs_by_owner", False: "jobs_by_owner_cpu"}
NEEDS = {True: "gpus > 0", False: "gpus = 0"}
"""The index and what is in it: jobs that need GPUs, and jobs that need none."""


OF_OWNER = "user = ? AND queue = ? AND coalesce(project, '') = ?"
"""The condition that the jobs of one owner fulfil, for the parameters of :func:`key`."""


def key(owner: UsageOwner) -> tuple[str, str, str]:
    """The parameters of OF_OWNER."""
    return owner.user, owner.queue, owner.project or ""


def waiting(db: sqlite3.Connection, now: float, *, gpus: bool) -> list[UsageOwner]:
    """Return the owners of jobs that may start and that need GPUs, or need none; at most MOST of them."""
    found = list(_walk(db, gpus))
    if len(found) <= MOST:
        return found
    first = int(now) % len(found)
    return [*found[first:], *found[:first]][:MOST]


def _walk(db: sqlite3.Connection, gpus: bool) -> Iterator[UsageOwner]:
    of = f"FROM jobs INDEXED BY {INDEX[gpus]} WHERE {IS_READY} AND {NEEDS[gpus]}"
    for user in _steps(db, "user", of, ()):
        for queue in _steps(db, "queue", f"{of} AND user = ?", (user,)):
            where = f"{of} AND user = ? AND queue = ?"
            for project in _steps(db, "coalesce(project, '')", where, (user, queue)):
                yield UsageOwner(user, project or None, queue)


def _steps(db: sqlite3.Connection, column: str, of: str, values: tuple[str, ...]) -> Iterator[str]:
    """The different values of a column of the index, one search for each. (A comparison of two columns at
    once would be a search by the first of them alone.)"""
    more = ""
    while True:
        row = db.execute(f"SELECT {column} AS value {of}{more} ORDER BY {column} LIMIT 1", values).fetchone()
        if row is None:
            return
        values = (*values[:-1], row["value"]) if more else (*values, row["value"])
        more = f" AND {column} > ?"
        yield row["value"]


def full_arrays(db: sqlite3.Connection) -> list[int]:
    """Arrays of which as many members run as may (index jobs_live)."""
    members: dict[int, int] = {}
    limits: dict[int, int] = {}
    for row in db.execute(
        "SELECT array_id, array_limit FROM jobs INDEXED BY jobs_live"
        f" WHERE {IS_LIVE} AND array_limit IS NOT NULL"
    ):
        members[row["array_id"]] = members.get(row["array_id"], 0) + 1
        limits[row["array_id"]] = row["array_limit"]
    return [array for array, count in members.items() if count >= limits[array]]
