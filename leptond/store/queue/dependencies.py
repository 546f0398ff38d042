"""Jobs that wait for the end of other jobs."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence

import msgspec

from leptond.base.errors import Invalid
from leptond.core.jobs.model import TERMINAL, DependencyKind, State
from leptond.core.jobs.states import FailureClass
from leptond.store.database import events
from leptond.store.database.conditions import IS_PENDING
from leptond.store.queue import compact_arrays


class Dependency(msgspec.Struct, frozen=True, kw_only=True):
    """`job_id` waits for `on_ref` (a job, or ``47_*`` for all of an array, whose first is `on_job_id`) to end
    as `kind` says."""

    job_id: int
    on_job_id: int
    on_ref: str
    kind: DependencyKind
    state: str


def satisfied(kind: DependencyKind, end: State) -> bool:
    """Return True if a job that ended as `end` satisfies a dependency of this kind."""
    match kind:
        case DependencyKind.ANY:
            return True
        case DependencyKind.OK:
            return end is State.SUCCEEDED
        case DependencyKind.FAIL:
            return end is not State.SUCCEEDED


def _one(db: sqlite3.Connection, ref: str) -> tuple[int, State] | None:
    """Id and state of the job that `ref` (``47`` or ``47_3``) names; None if there is none."""
    array, _, member = ref.partition("_")
    where, values = (
        ("array_id = ? AND array_index = ?", (int(array), int(member)))
        if member
        else ("id = ?", (int(array),))
    )
    row = db.execute(f"SELECT id, state FROM jobs WHERE {where}", values).fetchone()
    if row is not None:
        return row["id"], State(row["state"])
    job = compact_arrays.find(db, ref)
    return (job.id, job.state) if job is not None else None


def _all(db: sqlite3.Connection, array_id: int) -> dict[State, int]:
    """Count the members of an array by state; empty if there is no such array. For a job that waits for all
    of a sweep, a trial that was stopped early has done its part."""
    found: Counter[State] = Counter()
    for row in db.execute(
        f"SELECT CASE WHEN state = '{State.CANCELLED}' AND class = '{FailureClass.STOPPED_EARLY}'"
        f" THEN '{State.SUCCEEDED}' ELSE state END AS seen, count(*) AS n"
        " FROM jobs WHERE array_id = ? GROUP BY seen",
        (array_id,),
    ):
        found[State(row["seen"])] += row["n"]
    for compact in compact_arrays.of_array(db, array_id):
        found[compact.state] += compact.count
    return dict(found)


def add(db: sqlite3.Connection, job_id: int, refs: Sequence[str], kind: DependencyKind, field: str) -> None:
    """Let a job that was just inserted wait for `refs`. Raises Invalid (pointing at `field`) when there
    is no such job."""
    for position, ref in enumerate(refs):
        unknown = Invalid(f"there is no job {ref} to wait for", pointer=f"/{field}/{position}")
        array, _, member = ref.partition("_")
        if member == "*":
            ends = _all(db, int(array)) if int(array) < job_id else {}
            if not ends:
                raise unknown
            db.execute(
                "INSERT OR IGNORE INTO array_dependencies (job_id, on_array_id, kind, waiting, failed)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    job_id,
                    int(array),
                    kind,
                    sum(n for state, n in ends.items() if state not in TERMINAL),
                    sum(n for state, n in ends.items() if state in TERMINAL and not satisfied(kind, state)),
                ),
            )
            continue
        one = _one(db, ref)
        if one is None or one[0] >= job_id:
            raise unknown
        on, end = one
        if end not in TERMINAL:
            state = "waiting"
        else:
            state = "met" if satisfied(kind, end) else "failed"
        db.execute(
            "INSERT OR IGNORE INTO dependencies (job_id, on_job_id, kind, state) VALUES (?, ?, ?, ?)",
            (job_id, on, kind, state),
        )
    db.execute(f"UPDATE jobs SET {COUNTED} WHERE id = :id", {"id": job_id})


COUNTED = ", ".join(
    f"deps_{state} = (SELECT count(*) FROM dependencies WHERE job_id = :id AND state = '{state}')"
    f" + (SELECT coalesce(sum({state}), 0) FROM array_dependencies WHERE job_id = :id)"
    for state in ("waiting", "failed")
)
"""The columns of a job that follow from its dependencies."""


def resolve(
    db: sqlite3.Connection,
    ended: int,
    end: State,
    now: float,
    *,
    array_id: int | None,
    last: int | None = None,
    early: bool = False,
) -> None:
    """Settle the dependencies of the jobs that wait for `ended`, a member of `array_id` or of none (indexes
    dependencies_on, array_dependencies_on). With `last`: all jobs from `ended` to that one ended so. `early`:
    its sweep stopped it, which is no failure for a job that waits for all of them."""
    last = ended if last is None else last
    for row in db.execute(
        "SELECT job_id, on_job_id, kind FROM dependencies WHERE on_job_id BETWEEN ? AND ?"
        " AND state = 'waiting'",
        (ended, last),
    ).fetchall():
        met = satisfied(DependencyKind(row["kind"]), end)
        db.execute(
            "UPDATE dependencies SET state = ? WHERE job_id = ? AND on_job_id = ? AND kind = ?",
            ("met" if met else "failed", row["job_id"], row["on_job_id"], row["kind"]),
        )
        _count_ended(db, row["job_id"], 1, met)
        data = {"on_job_id": row["on_job_id"], "kind": row["kind"], "met": met}
        events.append(db, now, "job.dependency", job=row["job_id"], data=data)
    if array_id is None:
        return
    count = last - ended + 1
    end = State.SUCCEEDED if early else end
    for row in db.execute(
        "SELECT job_id, kind FROM array_dependencies WHERE on_array_id = ?", (array_id,)
    ).fetchall():
        met = satisfied(DependencyKind(row["kind"]), end)
        db.execute(
            "UPDATE array_dependencies SET waiting = waiting - ?, failed = failed + ?"
            " WHERE job_id = ? AND on_array_id = ? AND kind = ?",
            (count, 0 if met else count, row["job_id"], array_id, row["kind"]),
        )
        _count_ended(db, row["job_id"], count, met)
        data = {"on_job_id": ended, "kind": row["kind"], "met": met}
        if count > 1:
            data["last_id"] = last
        events.append(db, now, "job.dependency", job=row["job_id"], data=data)


def _count_ended(db: sqlite3.Connection, job_id: int, count: int, met: bool) -> None:
    """Count `count` ended jobs that `job_id` waited for. The compact members of an array wait as its first
    member does."""
    values = (count, 0 if met else count, job_id)
    moved = "deps_waiting = deps_waiting - ?, deps_failed = deps_failed + ?"
    db.execute(f"UPDATE jobs SET {moved} WHERE id = ?", values)
    db.execute(f"UPDATE folds SET {moved} WHERE array_id = ? AND {IS_PENDING}", values)


def of(db: sqlite3.Connection, job_id: int, array_id: int | None = None) -> list[Dependency]:
    """Return the dependencies, met or not, of a job that is a member of `array_id` or of none."""
    if array_id is not None and compact_arrays.at(db, job_id) is not None:
        job_id, asked = array_id, job_id
    else:
        asked = job_id
    single = db.execute("SELECT * FROM dependencies WHERE job_id = ? ORDER BY on_job_id", (job_id,))
    found = [
        Dependency(
            job_id=asked,
            on_job_id=row["on_job_id"],
            on_ref=str(row["on_job_id"]),
            kind=DependencyKind(row["kind"]),
            state=row["state"],
        )
        for row in single
    ]
    arrays = db.execute("SELECT * FROM array_dependencies WHERE job_id = ? ORDER BY on_array_id", (job_id,))
    return found + [
        Dependency(
            job_id=asked,
            on_job_id=row["on_array_id"],
            on_ref=f"{row['on_array_id']}_*",
            kind=DependencyKind(row["kind"]),
            state="failed" if row["failed"] else "waiting" if row["waiting"] else "met",
        )
        for row in arrays
    ]
