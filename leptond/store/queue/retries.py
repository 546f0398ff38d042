"""Jobs that were run again as copies: a job, its retries, and their ends for those that wait for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from leptond.core.jobs.dependency import satisfied
from leptond.core.jobs.model import TERMINAL, DependencyKind, State
from leptond.core.jobs.states import FailureClass


def family(db: sqlite3.Connection, root_id: int) -> list[int]:
    """The ids of a job and of all its retries (index jobs_root)."""
    found = db.execute("SELECT id FROM jobs WHERE id = ?1 OR root_id = ?1 ORDER BY id", (root_id,))
    return [row["id"] for row in found]


def members(db: sqlite3.Connection, root_id: int) -> list[tuple[int, int]]:
    """(id, array id) of those of the family that are members of an array."""
    found = db.execute(
        "SELECT id, array_id FROM jobs WHERE (id = ?1 OR root_id = ?1) AND array_id IS NOT NULL ORDER BY id",
        (root_id,),
    )
    return [(row["id"], row["array_id"]) for row in found]


_SEEN = (
    f"CASE WHEN state = '{State.CANCELLED}' AND class = '{FailureClass.STOPPED_EARLY}'"
    f" THEN '{State.SUCCEEDED}' ELSE state END AS seen"
)
"""The end of a member of an array, as those take it that wait for all of the array: a trial that its sweep
stopped early has done its part."""


def _from(db: sqlite3.Connection, job_id: int) -> list[State]:
    """The states of a job and of its later retries, oldest first."""
    root = db.execute("SELECT coalesce(root_id, id) FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if root is None:
        return []
    found = db.execute(
        "SELECT state FROM jobs WHERE (id = ?1 OR root_id = ?1) AND id >= ?2 ORDER BY id", (root[0], job_id)
    )
    return [State(row["state"]) for row in found]


def met(db: sqlite3.Connection, job_id: int, kind: DependencyKind, *, before: int) -> bool:
    """Return True if the end of a member of an array, or of one of its retries with an id under `before`,
    satisfies a dependency of this kind on it."""
    root = db.execute("SELECT coalesce(root_id, id) FROM jobs WHERE id = ?", (job_id,)).fetchone()
    found = db.execute(
        f"SELECT {_SEEN} FROM jobs WHERE (id = ?1 OR root_id = ?1) AND id >= ?2 AND id < ?3"
        " AND ended_at IS NOT NULL",
        (root[0], job_id, before),
    )
    return any(satisfied(kind, State(row["seen"])) for row in found)


def outcome(db: sqlite3.Connection, job_id: int, kind: DependencyKind) -> str:
    """The state of a new dependency on a job that has ended: ``met``, ``waiting`` for a retry, ``failed``."""
    states = _from(db, job_id)
    if any(state in TERMINAL and satisfied(kind, state) for state in states):
        return "met"
    return "waiting" if any(state not in TERMINAL for state in states) else "failed"


def outcomes(db: sqlite3.Connection, array_id: int, kind: DependencyKind) -> Iterator[str]:
    """The same for each member of an array that has ended otherwise and was tried again."""
    for row in db.execute(
        f"SELECT id, {_SEEN} FROM jobs AS member WHERE array_id = ? AND ended_at IS NOT NULL AND EXISTS"
        " (SELECT 1 FROM jobs WHERE root_id = coalesce(member.root_id, member.id) AND id > member.id)",
        (array_id,),
    ).fetchall():
        if not satisfied(kind, State(row["seen"])):
            yield outcome(db, row["id"], kind)
