"""The jobs that processes belong to, by the shims above them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from leptond.store.database.conditions import ATTEMPT_LIVES


class JobOwner(msgspec.Struct, frozen=True, kw_only=True):
    """A job and its user."""

    job_id: int
    user: str


def below_shims(db: sqlite3.Connection, pids: Sequence[int]) -> JobOwner | None:
    """Return the job whose shim is one of `pids`, the nearest first: of a live attempt, or of one that takes
    over at this moment (successors). None: there is none."""
    marks = ", ".join("?" * len(pids))
    found: dict[int, JobOwner] = {}
    for row in db.execute(
        f"SELECT shim_pid, job_id, user FROM attempts JOIN jobs ON jobs.id = job_id"
        f" WHERE attempts.{ATTEMPT_LIVES} AND shim_pid IN ({marks})"
        " UNION ALL SELECT shim_pid, successors.job_id, user FROM successors"
        f" JOIN jobs ON jobs.id = successors.job_id WHERE shim_pid IN ({marks})",
        (*pids, *pids),
    ):
        found.setdefault(row["shim_pid"], JobOwner(job_id=row["job_id"], user=row["user"]))
    return next((found[pid] for pid in pids if pid in found), None)


def of_attempt(db: sqlite3.Connection, attempt_id: str) -> JobOwner | None:
    """Return the job of an attempt, whatever its state (primary key); None for one that is not known."""
    row = db.execute(
        "SELECT job_id, user FROM attempts JOIN jobs ON jobs.id = job_id WHERE attempts.id = ?"
        " UNION ALL SELECT successors.job_id, user FROM successors JOIN jobs ON jobs.id = successors.job_id"
        " WHERE attempt_id = ?",
        (attempt_id, attempt_id),
    ).fetchone()
    return JobOwner(job_id=row["job_id"], user=row["user"]) if row is not None else None
