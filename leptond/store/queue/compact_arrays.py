"""Compact arrays: runs of members that differ only in their number, stored as one row of ``folds`` each. The
members count, list and answer like any other job; one is expanded into a row of ``jobs`` before it may start,
or when it is changed alone."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from leptond.core.jobs import fields
from leptond.core.jobs.arrays import Indices, parse_array
from leptond.core.jobs.field import OWN, SHARED
from leptond.core.jobs.model import MAX_ARRAY, Job, State
from leptond.store.database import events, rows
from leptond.store.database.conditions import IS_PENDING, IS_READY
from leptond.store.database.rows import enum_or

AT_ONCE = 64
"""Members that get their rows with the submit: enough for what starts before the next expansion."""

OVER = 128
"""Arrays of more members than this are stored compact."""

LOW, HIGH = 1500, 2000
"""When fewer members than LOW could start, more are expanded until HIGH could: always more than one plan
reads (candidates.WINDOW), so that the planner never misses a compact member."""

SLICE = 50
"""Members that are expanded in one transaction: a few milliseconds of the writer."""

SHARED_COLUMNS = tuple(one.name for one in fields.FIELDS if one.column and one.member is SHARED)
"""The columns that a row of ``folds`` shares with the rows of ``jobs`` that it stands for."""

_OF_ONE = {one.name: one.member for one in fields.FIELDS if one.column and one.member not in (SHARED, OWN)}
"""The other columns, as they are in a job that was never started."""

ANNOUNCED = fields.names(announced=True)
"""The fields that the event of a submit carries."""


class CompactArray:
    """A row of ``folds``: the members with the ids from `first` to `last`, not expanded yet."""

    def __init__(self, row: sqlite3.Row) -> None:
        self.row = row
        self.first: int = row["id"]
        self.last: int = row["last_id"]
        self.array_id: int = row["array_id"] or 0
        self.state = enum_or(State, row["state"], State.CANCELLED)
        self._like: Job | None = None
        self._indices: Indices | None = None

    @property
    def count(self) -> int:
        """Number of members."""
        return self.last - self.first + 1

    def index(self, job_id: int) -> int:
        """The array index of a member: ids are given out in the order of the indices."""
        if self._indices is None:
            self._indices = indices(self.row)
        position = job_id - self.array_id
        return self._indices[position] if 0 <= position < len(self._indices) else position

    def member(self, job_id: int) -> Job:
        """One of the jobs that it stands for."""
        if self._like is None:
            values: dict[str, Any] = {name: self.row[name] for name in SHARED_COLUMNS}
            self._like = rows.shown_job({**_OF_ONE, **values, "id": self.first, "array_index": 0})
        return msgspec.structs.replace(self._like, id=job_id, array_index=self.index(job_id))


def indices(row: sqlite3.Row) -> Indices:
    """All indices of the array that a row of ``folds`` belongs to."""
    try:
        text: str = msgspec.json.decode(row["spec"])["array"]
        return parse_array(text, max_members=MAX_ARRAY)[0]
    except (KeyError, TypeError, ValueError):  # a row that cannot be read: as they were counted
        return Indices([range(row["last_id"] - (row["array_id"] or 0) + 1)])


def begin(db: sqlite3.Connection, array_id: int, first: int, last: int) -> None:
    """Store the members from `first` to `last` as one row like that of the array's first member, which is
    there already; their ids are given out with it."""
    columns = ", ".join(SHARED_COLUMNS)
    db.execute(
        f"INSERT INTO folds (id, last_id, {columns}) SELECT ?, ?, {columns} FROM jobs WHERE id = ?",
        (first, last, array_id),
    )
    db.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'jobs'", (last,))


def at(db: sqlite3.Connection, job_id: int) -> CompactArray | None:
    """The compact array that a job is in; None when it has a row of its own or is not there."""
    row = db.execute("SELECT * FROM folds WHERE id <= ? ORDER BY id DESC LIMIT 1", (job_id,)).fetchone()
    return CompactArray(row) if row is not None and row["last_id"] >= job_id else None


def of_array(db: sqlite3.Connection, array_id: int, *, pending: bool = False) -> list[CompactArray]:
    """The compact parts of an array, by id (index folds_array); with `pending` only what still waits."""
    only = f" AND {IS_PENDING}" if pending else ""
    found = db.execute(f"SELECT * FROM folds WHERE array_id = ?{only} ORDER BY id", (array_id,))
    return [CompactArray(row) for row in found]


def id_of(db: sqlite3.Connection, ref: str) -> int | None:
    """The id of the compact member that `ref` (``47`` or ``47_3``) names; None when there is none."""
    array, _, member = ref.partition("_")
    if not member:
        compact = at(db, int(array))
        return int(array) if compact is not None else None
    row = db.execute("SELECT * FROM folds WHERE array_id = ? LIMIT 1", (int(array),)).fetchone()
    position = indices(row).position(int(member)) if row is not None else None
    if position is None or at(db, int(array) + position) is None:
        return None
    return int(array) + position


def find(db: sqlite3.Connection, ref: str) -> Job | None:
    """The compact member that `ref` names; None when there is none."""
    job_id = id_of(db, ref)
    compact = at(db, job_id) if job_id is not None else None
    return compact.member(job_id) if compact is not None and job_id is not None else None


def expand_one(db: sqlite3.Connection, ref: str, now: float) -> int | None:
    """Give the compact member that `ref` names a row of its own; its id, None without such a member."""
    job_id = id_of(db, ref)
    compact = at(db, job_id) if job_id is not None else None
    if compact is None or job_id is None:
        return None
    expand(db, compact, job_id, job_id, now)
    return job_id


def expand(db: sqlite3.Connection, compact: CompactArray, first: int, last: int, now: float) -> None:
    """Give the members from `first` to `last` rows of their own; the others stay compact."""
    cut(db, compact, first, last)
    values = {name: compact.row[name] for name in SHARED_COLUMNS}
    end = {name: values[name] for name in ("state", "ended_at", "class", "explanation")}
    values |= {"state": State.PENDING, "ended_at": None, "class": None, "explanation": None}
    names = ["id", "array_index", *values]
    db.executemany(
        f"INSERT INTO jobs ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
        [(job_id, compact.index(job_id), *values.values()) for job_id in range(first, last + 1)],
    )
    for table, columns in (
        ("dependencies", "on_job_id, kind, state"),
        ("array_dependencies", "on_array_id, kind, waiting, failed"),
    ):
        if db.execute(f"SELECT 1 FROM {table} WHERE job_id = ? LIMIT 1", (compact.array_id,)).fetchone():
            db.executemany(
                f"INSERT INTO {table} (job_id, {columns}) SELECT ?, {columns} FROM {table} WHERE job_id = ?",
                [(job_id, compact.array_id) for job_id in range(first, last + 1)],
            )
    if compact.state is not State.PENDING:
        db.execute(
            "UPDATE jobs SET state = ?, ended_at = ?, class = ?, explanation = ? WHERE id BETWEEN ? AND ?",
            (*end.values(), first, last),
        )
    announced = {**{name: values[name] for name in ANNOUNCED}, "array_id": compact.array_id}
    for job_id in range(first, last + 1):
        data = {**announced, "array_index": compact.index(job_id)}
        events.append(db, now, "job.submitted", job=job_id, data=data)


def cut(db: sqlite3.Connection, compact: CompactArray, first: int, last: int) -> None:
    """Take the ids from `first` to `last` out of a compact array."""
    assert compact.first <= first <= last <= compact.last
    if (first, last) == (compact.first, compact.last):
        db.execute("DELETE FROM folds WHERE id = ?", (compact.first,))
    elif first == compact.first:
        db.execute("UPDATE folds SET id = ? WHERE id = ?", (last + 1, compact.first))
    else:
        db.execute("UPDATE folds SET last_id = ? WHERE id = ?", (first - 1, compact.first))
        if last < compact.last:
            columns = ", ".join(SHARED_COLUMNS)
            db.execute(
                f"INSERT INTO folds (id, last_id, {columns}) SELECT ?, ?, {columns} FROM folds WHERE id = ?",
                (last + 1, compact.last, compact.first),
            )


class Short(msgspec.Struct, frozen=True, kw_only=True):
    """An array of which more members have to be expanded, and how many."""

    array_id: int
    missing: int


def any_array(db: sqlite3.Connection) -> bool:
    """Return True if any array has compact members."""
    return db.execute("SELECT 1 FROM arrays LIMIT 1").fetchone() is not None


def short(db: sqlite3.Connection) -> list[Short]:
    """The arrays with too few ready members, though more could be (table ``arrays``: a row for each array
    with compact members)."""
    return [
        Short(array_id=row["id"], missing=HIGH - row["ready"])
        for row in db.execute(
            "SELECT id, ready FROM arrays WHERE ready < ? AND EXISTS (SELECT 1 FROM folds WHERE array_id ="
            f" arrays.id AND {IS_READY})"
            " ORDER BY ready",
            (LOW,),
        )
    ]


def refill(db: sqlite3.Connection, array_id: int, count: int, now: float) -> int:
    """Expand the next members of an array that could start, at most `count`; the number of them."""
    row = db.execute(
        f"SELECT * FROM folds WHERE array_id = ? AND {IS_READY} ORDER BY id LIMIT 1",
        (array_id,),
    ).fetchone()
    if row is None or count < 1:
        return 0
    compact = CompactArray(row)
    last = min(compact.last, compact.first + count - 1)
    expand(db, compact, compact.first, last, now)
    return last - compact.first + 1


def covered(db: sqlite3.Connection, ids: Sequence[int], *, pending: bool = False) -> set[int]:
    """Those of `ids` that are compact members; with `pending` only those that still wait."""
    only = f" WHERE {IS_PENDING}" if pending else ""
    spans = [
        (row["id"], row["last_id"]) for row in db.execute(f"SELECT id, last_id FROM folds{only} ORDER BY id")
    ]
    found = set()
    for job_id in ids if spans else ():
        span = bisect_right(spans, job_id, key=lambda one: one[0]) - 1
        if span >= 0 and job_id <= spans[span][1]:
            found.add(job_id)
    return found


def newest(compacts: Sequence[CompactArray], *, below: int | None) -> Iterator[Job]:
    """All jobs of compact arrays, which come with the highest ids first, from the highest id on; only those
    with an id under `below`."""
    for compact in compacts:
        top = compact.last if below is None else min(compact.last, below - 1)
        for job_id in range(top, compact.first - 1, -1):
            yield compact.member(job_id)


def in_order(compacts: Sequence[CompactArray], *, after: tuple[int, int] | None) -> Iterator[Job]:
    """All jobs of compact arrays, which come in the order of the queue, in that order; only those after
    (priority, id)."""
    for compact in compacts:
        first = compact.first
        if after is not None and compact.row["priority"] == after[0]:
            first = max(first, after[1] + 1)
        for job_id in range(first, compact.last + 1):
            yield compact.member(job_id)
