"""Whole arrays: what people do to all members at once. The folded part is changed as it is folded, in one
transaction; the members with rows of their own follow, a few in each, so that nobody waits for the writer."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from leptond.base.errors import NotFound, WrongState
from leptond.core.jobs.model import TERMINAL, State
from leptond.store.database import events
from leptond.store.queue import compact_arrays, dependencies, jobs, order_keys

SLICE = 25
"""Members that are changed in one transaction: a few milliseconds of the writer."""


class Array(msgspec.Struct, frozen=True, kw_only=True):
    """An array: how many of its members are in which state; how many of those that wait are held, and how
    many can never start; and the first that ended without success, by its index."""

    id: int
    name: str
    user: str
    counts: dict[State, int]
    held: int
    never_start: int
    first_failed: str | None


def find(db: sqlite3.Connection, array_id: int) -> Array:
    """An array with the counts of its members. Raises NotFound."""
    counts: Counter[State] = Counter()
    held = never = 0
    for row in db.execute(
        "SELECT state, count(*) AS n, sum(held) AS held, sum(deps_failed > 0) AS never FROM jobs"
        " WHERE array_id = ? GROUP BY state",
        (array_id,),
    ):
        counts[State(row["state"])] += row["n"]
        if row["state"] == State.PENDING:
            held, never = held + row["held"], never + row["never"]
    for fold in compact_arrays.of_array(db, array_id):
        counts[fold.state] += fold.count
        if fold.state is State.PENDING:
            held += fold.count if fold.row["held"] else 0
            never += fold.count if fold.row["deps_failed"] else 0
    name, user = _whose(db, array_id)
    failed = sum(n for state, n in counts.items() if state in TERMINAL and state is not State.SUCCEEDED)
    return Array(
        id=array_id,
        name=name,
        user=user,
        counts=dict(counts),
        held=held,
        never_start=never,
        first_failed=_first_failed(db, array_id) if failed else None,
    )


def _first_failed(db: sqlite3.Connection, array_id: int) -> str | None:
    row = db.execute(
        "SELECT array_index FROM jobs INDEXED BY jobs_array WHERE array_id = ? AND ended_at IS NOT NULL"
        " AND state <> 'succeeded' AND class IS NOT 'stopped-early' ORDER BY array_index LIMIT 1",
        (array_id,),
    ).fetchone()
    found = [row["array_index"]] if row is not None else []
    found += [
        fold.index(fold.first) for fold in compact_arrays.of_array(db, array_id) if fold.state in TERMINAL
    ]
    return f"{array_id}_{min(found)}" if found else None


def is_over(db: sqlite3.Connection, array_id: int) -> bool:
    """Whether all members have ended: a look at the last of them, as a rule."""
    if compact_arrays.of_array(db, array_id, pending=True):
        return False
    return not db.execute(
        "SELECT 1 FROM jobs INDEXED BY jobs_array WHERE array_id = ? AND ended_at IS NULL"
        " ORDER BY array_index DESC LIMIT 1",
        (array_id,),
    ).fetchone()


def _whose(db: sqlite3.Connection, array_id: int) -> tuple[str, str]:
    """Name and user of an array. Raises NotFound."""
    for table in ("jobs", "folds"):
        row = db.execute(f"SELECT name, user FROM {table} WHERE array_id = ? LIMIT 1", (array_id,)).fetchone()
        if row is not None:
            return row["name"], row["user"]
    raise NotFound(f"there is no array {array_id}", hint="`leptonctl queue` lists the jobs")


def owner(db: sqlite3.Connection, array_id: int) -> str:
    """Whose array it is. Raises NotFound."""
    return _whose(db, array_id)[1]


def unended(
    db: sqlite3.Connection, array_id: int, after: int, *, newest_first: bool
) -> list[tuple[int, int]]:
    """(index, id) of the next members that have rows and have not ended, a slice of them, after the index
    `after`."""
    sign, order = ("<", "DESC") if newest_first else (">", "ASC")
    return [
        (row["array_index"], row["id"])
        for row in db.execute(
            "SELECT array_index, id FROM jobs INDEXED BY jobs_array WHERE array_id = ?"
            f" AND array_index {sign} ? AND ended_at IS NULL ORDER BY array_index {order} LIMIT ?",
            (array_id, after, SLICE),
        )
    ]


def cancel_folded(db: sqlite3.Connection, array_id: int, *, by: str, reason: str | None, now: float) -> int:
    """Cancels the members that are folded; how many."""
    why = f"cancelled by {by}" + (f": {reason}" if reason else "")
    count = 0
    for fold in compact_arrays.of_array(db, array_id, pending=True):
        db.execute(
            "UPDATE folds SET state = 'cancelled', ended_at = ?, class = 'cancelled', explanation = ?,"
            " version = version + 1 WHERE id = ?",
            (now, why, fold.first),
        )
        _tell(db, "array.cancelled", fold, {"explanation": why}, by, now)
        dependencies.resolve(db, fold.first, State.CANCELLED, now, array_id=array_id, last=fold.last)
        count += fold.count
    return count


def hold_folded(db: sqlite3.Connection, array_id: int, *, by: str, now: float) -> int:
    """Holds the members that are folded; how many those are."""
    return _set_held(db, array_id, True, f"held by {by}", by, now)


def release_folded(db: sqlite3.Connection, array_id: int, *, by: str, now: float) -> int:
    """Releases the members that are folded; how many those are."""
    return _set_held(db, array_id, False, None, by, now)


def _set_held(
    db: sqlite3.Connection, array_id: int, held: bool, reason: str | None, by: str, now: float
) -> int:
    count = 0
    for fold in compact_arrays.of_array(db, array_id, pending=True):
        count += fold.count
        if bool(fold.row["held"]) is not held:
            db.execute(
                "UPDATE folds SET held = ?, hold_reason = ?, version = version + 1 WHERE id = ?",
                (int(held), reason, fold.first),
            )
            _tell(db, "array.edited", fold, {"held": held}, by, now)
    return count


def edit_folded(
    db: sqlite3.Connection, array_id: int, changes: dict[str, Any], *, by: str, by_admin: bool, now: float
) -> int:
    """Sets columns of the members that are folded; how many those are. Raises as
    :func:`leptond.store.queue.jobs.edit`."""
    count = 0
    columns = jobs.columns_of(changes)
    policy = order_keys.figures(db)
    for fold in compact_arrays.of_array(db, array_id, pending=True):
        count += fold.count
        if not changes:
            continue
        jobs.check_changes(db, fold.member(fold.first), changes, by_admin=by_admin)
        assignments = ", ".join(f"{column} = :{column}" for column in columns)
        db.execute(
            f"UPDATE folds SET {assignments}, version = version + 1 WHERE id = :id",
            {**columns, "id": fold.first},
        )
        order_keys.place_fold(
            db, db.execute("SELECT * FROM folds WHERE id = ?", (fold.first,)).fetchone(), policy
        )
        _tell(db, "array.edited", fold, changes, by, now)
    return count


def each(db: sqlite3.Connection, /, members: Sequence[tuple[int, int]], verb: Any, **how: Any) -> int:
    """Does to members what `verb` of :mod:`leptond.store.queue.jobs` does to one; how many it could be done
    to."""
    done = 0
    for _, job_id in members:
        try:
            verb(db, str(job_id), **how)
        except WrongState:
            continue
        done += 1
    return done


def _tell(
    db: sqlite3.Connection, kind: str, fold: compact_arrays.Fold, data: dict[str, Any], by: str, now: float
) -> None:
    spans = {"first_id": fold.first, "last_id": fold.last, "jobs": fold.count, "by": by}
    events.append(db, now, kind, job=fold.array_id, data={**data, **spans})
