"""Whole arrays: what is done to all members at once. The compact part is changed as it is, in one
transaction; the members with rows of their own follow, a few in each, so that other writes get in between."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from leptond.base.errors import WrongState
from leptond.core.jobs.missing import no_such_array
from leptond.core.jobs.model import TERMINAL, State
from leptond.core.jobs.states import FailureClass
from leptond.store.database import events, rows
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
        "SELECT state, count(*) AS n, sum(held) AS held, sum(never_cause IS NOT NULL) AS never FROM jobs"
        " WHERE array_id = ? GROUP BY state",
        (array_id,),
    ):
        counts[State(row["state"])] += row["n"]
        if row["state"] == State.PENDING:
            held, never = held + row["held"], never + row["never"]
    for compact in compact_arrays.of_array(db, array_id):
        counts[compact.state] += compact.count
        if compact.state is State.PENDING:
            held += compact.count if compact.row["held"] else 0
            never += compact.count if compact.row["never_cause"] is not None else 0
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
        f" AND state <> '{State.SUCCEEDED}' AND class IS NOT 'stopped-early' ORDER BY array_index LIMIT 1",
        (array_id,),
    ).fetchone()
    found = [row["array_index"]] if row is not None else []
    found += [
        compact.index(compact.first)
        for compact in compact_arrays.of_array(db, array_id)
        if compact.state in TERMINAL
    ]
    return f"{array_id}_{min(found)}" if found else None


def is_over(db: sqlite3.Connection, array_id: int) -> bool:
    """Return True if all members have ended: as a rule one search, for the last of them."""
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
    raise no_such_array(array_id)


def owner(db: sqlite3.Connection, array_id: int) -> str:
    """Return the user that owns an array. Raises NotFound."""
    return _whose(db, array_id)[1]


def member_ids(db: sqlite3.Connection, array_id: int) -> list[int]:
    """The ids of all members. Raises NotFound."""
    _whose(db, array_id)
    found = [row["id"] for row in db.execute("SELECT id FROM jobs WHERE array_id = ?", (array_id,))]
    for compact in compact_arrays.of_array(db, array_id):
        found += range(compact.first, compact.last + 1)
    return sorted(found)


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


def cancel_parts(
    db: sqlite3.Connection,
    parts: Sequence[compact_arrays.CompactArray],
    *,
    by: str,
    why: str,
    now: float,
) -> int:
    """Cancel pending compact parts of arrays; the number of their members."""
    count = 0
    for compact in parts:
        db.execute(
            f"UPDATE folds SET state = '{State.CANCELLED}', ended_at = ?, class = '{FailureClass.CANCELLED}',"
            " explanation = ?, never_cause = NULL, version = version + 1 WHERE id = ?",
            (now, why, compact.first),
        )
        _log_change(db, "array.cancelled", compact, {"explanation": why}, by, now)
        ended = dependencies.Ended(
            first=compact.first, last=compact.last, array_id=compact.array_id, state=State.CANCELLED
        )
        dependencies.resolve(db, [ended], now)
        count += compact.count
    return count


def set_held(
    db: sqlite3.Connection,
    parts: Sequence[compact_arrays.CompactArray],
    *,
    held: bool,
    reason: str | None,
    by: str,
    now: float,
) -> int:
    """Hold or release pending compact parts of arrays; the number of their members."""
    count = 0
    for compact in parts:
        count += compact.count
        if bool(compact.row["held"]) is not held:
            db.execute(
                "UPDATE folds SET held = ?, hold_reason = ?, version = version + 1 WHERE id = ?",
                (int(held), reason, compact.first),
            )
            _log_change(db, "array.edited", compact, {"held": held}, by, now)
    return count


def edit_compact(
    db: sqlite3.Connection, array_id: int, changes: dict[str, Any], *, by: str, by_admin: bool, now: float
) -> int:
    """Set columns of the compact members; the number of them. Raises as
    :func:`leptond.store.queue.jobs.edit`."""
    count = 0
    columns = rows.changed_columns(changes)
    policy = order_keys.figures(db)
    for compact in compact_arrays.of_array(db, array_id, pending=True):
        count += compact.count
        if not changes:
            continue
        jobs.check_changes(db, compact.member(compact.first), changes, by_admin=by_admin)
        assignments = ", ".join(f"{column} = :{column}" for column in columns)
        db.execute(
            f"UPDATE folds SET {assignments}, version = version + 1 WHERE id = :id",
            {**columns, "id": compact.first},
        )
        order_keys.place_compact(
            db, db.execute("SELECT * FROM folds WHERE id = ?", (compact.first,)).fetchone(), policy
        )
        _log_change(db, "array.edited", compact, changes, by, now)
    return count


def each(db: sqlite3.Connection, /, members: Sequence[tuple[int, int]], verb: Any, **how: Any) -> int:
    """Do to members what `verb` of :mod:`leptond.store.queue.jobs` does to one; how many it could be done
    to."""
    done = 0
    for _, job_id in members:
        try:
            verb(db, str(job_id), **how)
        except WrongState:
            continue
        done += 1
    return done


def _log_change(
    db: sqlite3.Connection,
    kind: str,
    compact: compact_arrays.CompactArray,
    data: dict[str, Any],
    by: str,
    now: float,
) -> None:
    spans = {"first_id": compact.first, "last_id": compact.last, "jobs": compact.count, "by": by}
    events.append(db, now, kind, job=compact.array_id, data={**data, **spans})
