"""Jobs that wait for the end of other jobs."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence

import msgspec

from leptond.base.errors import Invalid
from leptond.core.jobs.dependency import satisfied
from leptond.core.jobs.model import TERMINAL, DependencyKind, State
from leptond.core.jobs.states import FailureClass
from leptond.store.database import events
from leptond.store.database.conditions import IS_PENDING
from leptond.store.database.rows import enum_or
from leptond.store.queue import compact_arrays, never, retries


class Dependency(msgspec.Struct, frozen=True, kw_only=True):
    """`job_id` waits for `on_ref` (a job, or ``47_*`` for all of an array, whose first is `on_job_id`) to end
    as `kind` says."""

    job_id: int
    on_job_id: int
    on_ref: str
    kind: DependencyKind
    state: str


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


def array_counts(db: sqlite3.Connection, array_id: int, kind: DependencyKind) -> tuple[int, int] | None:
    """How many members of an array a new dependency of this kind would wait for, and how many have ended
    other than it wants; None if there is no such array. A member that was tried again counts by its
    retries."""
    ends = _all(db, array_id)
    if not ends:
        return None
    waiting = sum(n for state, n in ends.items() if state not in TERMINAL)
    failed = sum(n for state, n in ends.items() if state in TERMINAL and not satisfied(kind, state))
    for outcome in retries.outcomes(db, array_id, kind) if failed else ():
        waiting += outcome == "waiting"
        failed -= outcome != "failed"
    return waiting, failed


def add(db: sqlite3.Connection, job_id: int, refs: Sequence[str], kind: DependencyKind, field: str) -> None:
    """Let a job that was just inserted wait for `refs`. What was tried again counts by its newest try. Raises
    Invalid (pointing at `field`) when there is no such job."""
    first: dict[str, int] = {}
    for position, ref in enumerate(refs):
        first.setdefault(ref, position)
    for ref, position in first.items():
        unknown = Invalid(f"there is no job {ref} to wait for", pointer=f"/{field}/{position}")
        array, _, member = ref.partition("_")
        if member == "*":
            counts = array_counts(db, int(array), kind) if int(array) < job_id else None
            if counts is None:
                raise unknown
            db.execute(
                "INSERT OR IGNORE INTO array_dependencies (job_id, on_array_id, kind, waiting, failed)"
                " VALUES (?, ?, ?, ?, ?)",
                (job_id, int(array), kind, *counts),
            )
            continue
        one = _one(db, ref)
        if one is None or one[0] >= job_id:
            raise unknown
        on, end = one
        if end not in TERMINAL:
            state = "waiting"
        else:
            state = "met" if satisfied(kind, end) else retries.outcome(db, on, kind)
        db.execute(
            "INSERT OR IGNORE INTO dependencies (job_id, on_job_id, kind, state) VALUES (?, ?, ?, ?)",
            (job_id, on, kind, state),
        )
    db.execute(f"UPDATE jobs SET {COUNTED} WHERE id = :id", {"id": job_id})
    never.update(db, [job_id])


COUNTED = ", ".join(
    f"deps_{state} = (SELECT count(*) FROM dependencies WHERE job_id = :id AND state = '{state}')"
    f" + (SELECT coalesce(sum({state}), 0) FROM array_dependencies WHERE job_id = :id)"
    for state in ("waiting", "failed")
)
"""The columns of a job that follow from its dependencies."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs with the ids from `first` to `last` that have ended alike: members of `array_id`, or of none.
    `early`: their sweep stopped them, which is no failure for a job that waits for all of them. `root_id`:
    a job whose retry this is (None: it is none)."""

    first: int
    last: int
    array_id: int | None
    state: State
    early: bool = False
    root_id: int | None = None


def concern(db: sqlite3.Connection, job_id: int) -> bool:
    """Return True if other jobs wait for the end of a job, or may do so (indexes dependencies_on,
    array_dependencies_on)."""
    job = db.execute("SELECT array_id, root_id FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if job is None or job["root_id"] is not None:
        return True
    found = db.execute(
        "SELECT 1 FROM dependencies WHERE on_job_id = ? AND state = 'waiting' UNION ALL"
        " SELECT 1 FROM array_dependencies WHERE on_array_id = ? LIMIT 1",
        (job_id, job["array_id"]),
    )
    return found.fetchone() is not None


def resolve(db: sqlite3.Connection, ends: Sequence[Ended], now: float) -> None:
    """Settle the dependencies of the jobs that wait for what has ended (indexes dependencies_on,
    array_dependencies_on), and pass on who can never start now."""
    changed: set[int] = set()
    for one in ends:
        for first, last in (
            ((one.first, one.last),)
            if one.root_id is None
            else ((number, number) for number in retries.family(db, one.root_id))
        ):
            _settle_single(db, first, last, one.state, now, changed)
    for (array_id, state), group in _by_array(db, ends).items():
        _settle_array(db, array_id, state, group, now, changed)
    for one in ends:
        if one.root_id is not None:
            for member, array_id in retries.members(db, one.root_id):
                _settle_retried(db, one, member, array_id, now, changed)
    never.update(db, changed)


def _by_array(db: sqlite3.Connection, ends: Sequence[Ended]) -> dict[tuple[int, State], list[Ended]]:
    """The ends by array and by what they mean to those that wait for all of it."""
    found: dict[tuple[int, State], list[Ended]] = {}
    for one in ends:
        if one.array_id is not None:
            state = State.SUCCEEDED if one.early else one.state
            found.setdefault((one.array_id, state), []).append(one)
    return found


def _settle_single(
    db: sqlite3.Connection, first: int, last: int, end: State, now: float, changed: set[int]
) -> None:
    for row in db.execute(
        "SELECT job_id, on_job_id, kind FROM dependencies WHERE on_job_id BETWEEN ? AND ?"
        " AND state = 'waiting'",
        (first, last),
    ).fetchall():
        met = satisfied(DependencyKind(row["kind"]), end)
        db.execute(
            "UPDATE dependencies SET state = ? WHERE job_id = ? AND on_job_id = ? AND kind = ?",
            ("met" if met else "failed", row["job_id"], row["on_job_id"], row["kind"]),
        )
        _count(db, row["job_id"], -1, 0 if met else 1)
        data = {"on_job_id": row["on_job_id"], "kind": row["kind"], "met": met}
        events.append(db, now, "job.dependency", job=row["job_id"], data=data)
        changed.add(row["job_id"])


def _settle_array(
    db: sqlite3.Connection,
    array_id: int,
    end: State,
    group: Sequence[Ended],
    now: float,
    changed: set[int],
) -> None:
    count = sum(one.last - one.first + 1 for one in group)
    for row in db.execute(
        "SELECT job_id, kind FROM array_dependencies WHERE on_array_id = ?", (array_id,)
    ).fetchall():
        met = satisfied(DependencyKind(row["kind"]), end)
        _count_array(db, row, array_id, -count, 0 if met else count)
        data = {"on_job_id": group[0].first, "kind": row["kind"], "met": met}
        if count > 1:
            data["last_id"] = group[-1].last
        events.append(db, now, "job.dependency", job=row["job_id"], data=data)
        changed.add(row["job_id"])


def _settle_retried(
    db: sqlite3.Connection, again: Ended, member: int, array_id: int, now: float, changed: set[int]
) -> None:
    """Settle what waits for all of an array of which `again` is a member's retry."""
    for row in _retry_matters(db, member, array_id, before=again.first, counted="waiting"):
        met = satisfied(DependencyKind(row["kind"]), again.state)
        _count_array(db, row, array_id, -1, 0 if met else 1)
        data = {"on_job_id": member, "kind": row["kind"], "met": met}
        events.append(db, now, "job.dependency", job=row["job_id"], data=data)
        changed.add(row["job_id"])


def _retry_matters(
    db: sqlite3.Connection, member: int, array_id: int, *, before: int, counted: str
) -> list[sqlite3.Row]:
    """The dependencies on an array that no end of `member`, or of its retries before `before`, has met, and
    that have it `counted` among those that are waited for or have failed."""
    rows = db.execute(
        f"SELECT job_id, kind FROM array_dependencies WHERE on_array_id = ? AND {counted} > 0", (array_id,)
    ).fetchall()
    return [row for row in rows if not retries.met(db, member, DependencyKind(row["kind"]), before=before)]


def revive(db: sqlite3.Connection, again: int, root_id: int, now: float) -> None:
    """Let those that could never start because `root_id`, or a retry of it, had ended badly wait for its new
    retry `again`."""
    changed: set[int] = set()
    data = {"kind": "", "met": None, "retry": again}
    for number in retries.family(db, root_id):
        for row in db.execute(
            "SELECT job_id, on_job_id, kind FROM dependencies WHERE on_job_id = ? AND state = 'failed'",
            (number,),
        ).fetchall():
            db.execute(
                "UPDATE dependencies SET state = 'waiting' WHERE job_id = ? AND on_job_id = ? AND kind = ?",
                tuple(row),
            )
            _count(db, row["job_id"], 1, -1)
            about = {"on_job_id": number, **data, "kind": row["kind"]}
            events.append(db, now, "job.dependency", job=row["job_id"], data=about)
            changed.add(row["job_id"])
    for member, array_id in retries.members(db, root_id):
        for row in _retry_matters(db, member, array_id, before=again, counted="failed"):
            _count_array(db, row, array_id, 1, -1)
            about = {"on_job_id": member, **data, "kind": row["kind"]}
            events.append(db, now, "job.dependency", job=row["job_id"], data=about)
            changed.add(row["job_id"])
    never.update(db, changed)


def _count_array(db: sqlite3.Connection, row: sqlite3.Row, array_id: int, waiting: int, failed: int) -> None:
    db.execute(
        "UPDATE array_dependencies SET waiting = waiting + ?, failed = failed + ?"
        " WHERE job_id = ? AND on_array_id = ? AND kind = ?",
        (waiting, failed, row["job_id"], array_id, row["kind"]),
    )
    _count(db, row["job_id"], waiting, failed)


def _count(db: sqlite3.Connection, job_id: int, waiting: int, failed: int) -> None:
    """Add to what `job_id` waits for, and to what ended other than wanted. The compact members of an array
    wait as its first member does."""
    values = (waiting, failed, job_id)
    moved = "deps_waiting = deps_waiting + ?, deps_failed = deps_failed + ?"
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
            kind=enum_or(DependencyKind, row["kind"], DependencyKind.OK),
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
            kind=enum_or(DependencyKind, row["kind"], DependencyKind.OK),
            state="failed" if row["failed"] else "waiting" if row["waiting"] else "met",
        )
        for row in arrays
    ]
