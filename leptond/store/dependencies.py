"""Jobs that wait for the end of other jobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from leptond.core.model import TERMINAL, DependencyKind, State
from leptond.errors import Invalid
from leptond.store import events


class Dependency(msgspec.Struct, frozen=True, kw_only=True):
    """`job_id` waits for `on_job_id` to end as `kind` says."""

    job_id: int
    on_job_id: int
    kind: DependencyKind
    state: str


def satisfied(kind: DependencyKind, end: State) -> bool:
    """Whether a job that ended as `end` satisfies a dependency of this kind."""
    match kind:
        case DependencyKind.ANY:
            return True
        case DependencyKind.OK:
            return end is State.SUCCEEDED
        case DependencyKind.FAIL:
            return end is not State.SUCCEEDED


def resolve_ref(db: sqlite3.Connection, ref: str) -> list[sqlite3.Row]:
    """Rows (id, state, user) of the jobs that `ref` names: ``47``, ``47_3`` or ``47_*``; none if unknown."""
    array, _, member = ref.partition("_")
    if not member:
        rows = db.execute("SELECT id, state, user FROM jobs WHERE id = ?", (int(array),))
    elif member == "*":
        rows = db.execute(
            "SELECT id, state, user FROM jobs WHERE array_id = ? ORDER BY array_index", (int(array),)
        )
    else:
        rows = db.execute(
            "SELECT id, state, user FROM jobs WHERE array_id = ? AND array_index = ?",
            (int(array), int(member)),
        )
    return rows.fetchall()


def add(db: sqlite3.Connection, job_id: int, refs: Sequence[str], kind: DependencyKind, field: str) -> None:
    """Lets a job that was just inserted wait for `refs`. Raises Invalid (pointing at `field`) when there
    is no such job."""
    for position, ref in enumerate(refs):
        found = [row for row in resolve_ref(db, ref) if row["id"] != job_id]
        if not found:
            raise Invalid(f"there is no job {ref} to wait for", pointer=f"/{field}/{position}")
        for row in found:
            end = State(row["state"])
            if end not in TERMINAL:
                state = "waiting"
            else:
                state = "met" if satisfied(kind, end) else "failed"
            db.execute(
                "INSERT OR IGNORE INTO dependencies (job_id, on_job_id, kind, state) VALUES (?, ?, ?, ?)",
                (job_id, row["id"], kind, state),
            )
    _count(db, job_id)


def _count(db: sqlite3.Connection, job_id: int) -> None:
    db.execute(
        "UPDATE jobs SET"
        " deps_waiting = (SELECT count(*) FROM dependencies WHERE job_id = :id AND state = 'waiting'),"
        " deps_failed = (SELECT count(*) FROM dependencies WHERE job_id = :id AND state = 'failed')"
        " WHERE id = :id",
        {"id": job_id},
    )


def resolve(db: sqlite3.Connection, ended: int, end: State, now: float) -> None:
    """Tells the jobs that wait for `ended` how it ended (index dependencies_on)."""
    rows = db.execute(
        "SELECT job_id, kind FROM dependencies WHERE on_job_id = ? AND state = 'waiting'", (ended,)
    ).fetchall()
    for row in rows:
        met = satisfied(DependencyKind(row["kind"]), end)
        db.execute(
            "UPDATE dependencies SET state = ? WHERE job_id = ? AND on_job_id = ? AND kind = ?",
            ("met" if met else "failed", row["job_id"], ended, row["kind"]),
        )
        _count(db, row["job_id"])
        data = {"on_job_id": ended, "kind": row["kind"], "met": met}
        events.append(db, now, "job.dependency", job=row["job_id"], data=data)


def of(db: sqlite3.Connection, job_id: int) -> list[Dependency]:
    """What a job waits or waited for."""
    rows = db.execute("SELECT * FROM dependencies WHERE job_id = ? ORDER BY on_job_id", (job_id,))
    return [
        Dependency(
            job_id=job_id, on_job_id=row["on_job_id"], kind=DependencyKind(row["kind"]), state=row["state"]
        )
        for row in rows
    ]
