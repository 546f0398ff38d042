"""Users and projects of jobs and arrays: what decides who may see and change them."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

import msgspec

from leptond.core.jobs.missing import no_such_array
from leptond.store.queue import compact_arrays


class Owner(msgspec.Struct, frozen=True):
    """User and project of a job."""

    user: str
    project: str | None


def of_jobs(db: sqlite3.Connection, job_ids: Collection[int]) -> dict[int, Owner]:
    """Return the owners of those of these jobs that are known, also of compact members (primary key)."""
    found: dict[int, Owner] = {}
    ids = list(set(job_ids))
    for start in range(0, len(ids), 500):
        some = ids[start : start + 500]
        for row in db.execute(
            f"SELECT id, user, project FROM jobs WHERE id IN ({', '.join('?' * len(some))})", some
        ):
            found[row["id"]] = Owner(row["user"], row["project"])
    for job_id in set(ids) - found.keys():
        compact = compact_arrays.at(db, job_id)
        if compact is not None:
            found[job_id] = Owner(compact.row["user"], compact.row["project"])
    return found


def of_array(db: sqlite3.Connection, array_id: int) -> list[Owner]:
    """Return the distinct owners of an array's members: as a rule one. Raises NotFound."""
    found = db.execute(
        "SELECT DISTINCT user, project FROM jobs WHERE array_id = ?1"
        " UNION SELECT DISTINCT user, project FROM folds WHERE array_id = ?1",
        (array_id,),
    ).fetchall()
    if not found:
        raise no_such_array(array_id)
    return [Owner(row["user"], row["project"]) for row in found]
