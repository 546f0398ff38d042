"""Folded members of arrays: runs of jobs that are alike in everything but their number, one row each. They
count, list and answer like any other job; a member is unfolded into a row of ``jobs`` before it may start, or
when somebody turns to it alone."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from leptond.core.jobs.arrays import Indices, parse_array
from leptond.core.jobs.model import MAX_ARRAY, Job, State
from leptond.store.database import events, rows

AT_ONCE = 64
"""Members that get their rows with the submit: enough for what starts before anybody has looked again."""

OVER = 128
"""Arrays of more members than this are folded."""

LOW, HIGH = 1500, 2000
"""When fewer members than LOW could start, more are unfolded until HIGH could: always more than one plan
looks at (window.WINDOW), so that to the planner nothing is folded."""

SLICE = 50
"""Members that are unfolded in one transaction: a few milliseconds of the writer."""

SHARED = (
    "array_id",
    "state",
    "spec",
    "name",
    "user",
    "project",
    "labels",
    "held",
    "hold_reason",
    "priority",
    "queue",
    "gpus",
    "gpu_type",
    "gpu_memory_bytes",
    "exclusive",
    "time_limit_s",
    "retries",
    "begin_at",
    "array_limit",
    "deps_waiting",
    "deps_failed",
    "submitted_at",
    "ended_at",
    "class",
    "explanation",
    "preemptible",
    "urgent",
    "signature",
    "predicted_s",
    "order_at",
    "lane",
    "due_at",
    "alone_at",
    "short_s",
    "version",
)
"""What a fold has in common with the rows of ``jobs`` that it stands for."""

_OF_ONE = {
    "retry_of": None,
    "root_id": None,
    "started_at": None,
    "deadline_at": None,
    "backoff_at": None,
    "backoff_boot": None,
    "attempt": 0,
    "spent_user": 0,
    "spent_infra": 0,
    "spent_snooze": 0,
    "spent_requeue": 0,
    "spent_preempt": 0,
    "exit_code": None,
    "signal": None,
    "gpu_ms": 0,
    "tuned": "{}",
    "tuned_version": 0,
}
"""The other columns, as they are of a job that was never touched (a test looks at the schema)."""


class Fold:
    """A row of ``folds``: the members with the ids from `first` to `last`."""

    def __init__(self, row: sqlite3.Row) -> None:
        self.row = row
        self.first: int = row["id"]
        self.last: int = row["last_id"]
        self.array_id: int = row["array_id"]
        self.state = State(row["state"])
        self._like: Job | None = None
        self._indices: Indices | None = None

    @property
    def count(self) -> int:
        """How many members."""
        return self.last - self.first + 1

    def index(self, job_id: int) -> int:
        """The array index of a member: ids are given out in the order of the indices."""
        if self._indices is None:
            self._indices = indices(self.row)
        return self._indices[job_id - self.array_id]

    def member(self, job_id: int) -> Job:
        """One of the jobs that it stands for."""
        if self._like is None:
            values: dict[str, Any] = {name: self.row[name] for name in SHARED}
            self._like = rows.job({**_OF_ONE, **values, "id": self.first, "array_index": 0})
        return msgspec.structs.replace(self._like, id=job_id, array_index=self.index(job_id))


def indices(row: sqlite3.Row) -> Indices:
    """All indices of the array that a fold is of."""
    text: str = msgspec.json.decode(row["spec"])["array"]
    return parse_array(text, max_members=MAX_ARRAY)[0]


def begin(db: sqlite3.Connection, array_id: int, first: int, last: int) -> None:
    """Stores the members from `first` to `last` as one row like that of the array's first member, which is
    there already; their ids are given out with it."""
    columns = ", ".join(SHARED)
    db.execute(
        f"INSERT INTO folds (id, last_id, {columns}) SELECT ?, ?, {columns} FROM jobs WHERE id = ?",
        (first, last, array_id),
    )
    db.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'jobs'", (last,))


def at(db: sqlite3.Connection, job_id: int) -> Fold | None:
    """The fold that a job is in; None when it is in none."""
    row = db.execute("SELECT * FROM folds WHERE id <= ? ORDER BY id DESC LIMIT 1", (job_id,)).fetchone()
    return Fold(row) if row is not None and row["last_id"] >= job_id else None


def of_array(db: sqlite3.Connection, array_id: int, *, pending: bool = False) -> list[Fold]:
    """What is folded of an array, by id (index folds_array); with `pending` only what still waits."""
    only = " AND state = 'pending'" if pending else ""
    found = db.execute(f"SELECT * FROM folds WHERE array_id = ?{only} ORDER BY id", (array_id,))
    return [Fold(row) for row in found]


def id_of(db: sqlite3.Connection, ref: str) -> int | None:
    """The id of the folded job that `ref` (``47`` or ``47_3``) names; None when there is none."""
    array, _, member = ref.partition("_")
    if not member:
        fold = at(db, int(array))
        return int(array) if fold is not None else None
    row = db.execute("SELECT * FROM folds WHERE array_id = ? LIMIT 1", (int(array),)).fetchone()
    position = indices(row).position(int(member)) if row is not None else None
    if position is None or at(db, int(array) + position) is None:
        return None
    return int(array) + position


def find(db: sqlite3.Connection, ref: str) -> Job | None:
    """The folded job that `ref` names."""
    job_id = id_of(db, ref)
    fold = at(db, job_id) if job_id is not None else None
    return fold.member(job_id) if fold is not None and job_id is not None else None


def take_out(db: sqlite3.Connection, ref: str, now: float) -> int | None:
    """Gives the folded job that `ref` names a row of its own; its id, None when there is none folded."""
    job_id = id_of(db, ref)
    fold = at(db, job_id) if job_id is not None else None
    if fold is None or job_id is None:
        return None
    unfold(db, fold, job_id, job_id, now)
    return job_id


def unfold(db: sqlite3.Connection, fold: Fold, first: int, last: int, now: float) -> None:
    """Gives the members from `first` to `last` rows of their own; what is left of the fold stays folded."""
    cut(db, fold, first, last)
    values = {name: fold.row[name] for name in SHARED}
    end = {name: values[name] for name in ("state", "ended_at", "class", "explanation")}
    values |= {"state": State.PENDING, "ended_at": None, "class": None, "explanation": None}
    names = ["id", "array_index", *values]
    db.executemany(
        f"INSERT INTO jobs ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
        [(job_id, fold.index(job_id), *values.values()) for job_id in range(first, last + 1)],
    )
    for table, columns in (
        ("dependencies", "on_job_id, kind, state"),
        ("array_dependencies", "on_array_id, kind, waiting, failed"),
    ):
        if db.execute(f"SELECT 1 FROM {table} WHERE job_id = ? LIMIT 1", (fold.array_id,)).fetchone():
            db.executemany(
                f"INSERT INTO {table} (job_id, {columns}) SELECT ?, {columns} FROM {table} WHERE job_id = ?",
                [(job_id, fold.array_id) for job_id in range(first, last + 1)],
            )
    if fold.state is not State.PENDING:
        db.execute(
            "UPDATE jobs SET state = ?, ended_at = ?, class = ?, explanation = ? WHERE id BETWEEN ? AND ?",
            (*end.values(), first, last),
        )
    told = {
        "name": values["name"],
        "user": values["user"],
        "gpus": values["gpus"],
        "priority": values["priority"],
        "queue": values["queue"],
        "array_id": fold.array_id,
    }
    for job_id in range(first, last + 1):
        data = {**told, "array_index": fold.index(job_id)}
        events.append(db, now, "job.submitted", job=job_id, data=data)


def cut(db: sqlite3.Connection, fold: Fold, first: int, last: int) -> None:
    """Takes the ids from `first` to `last` out of a fold."""
    assert fold.first <= first <= last <= fold.last
    if (first, last) == (fold.first, fold.last):
        db.execute("DELETE FROM folds WHERE id = ?", (fold.first,))
    elif first == fold.first:
        db.execute("UPDATE folds SET id = ? WHERE id = ?", (last + 1, fold.first))
    else:
        db.execute("UPDATE folds SET last_id = ? WHERE id = ?", (first - 1, fold.first))
        if last < fold.last:
            columns = ", ".join(SHARED)
            db.execute(
                f"INSERT INTO folds (id, last_id, {columns}) SELECT ?, ?, {columns} FROM folds WHERE id = ?",
                (last + 1, fold.last, fold.first),
            )


class Short(msgspec.Struct, frozen=True, kw_only=True):
    """An array of which more members have to be unfolded, and how many that are."""

    array_id: int
    missing: int


def any_array(db: sqlite3.Connection) -> bool:
    """Whether some array is partly folded."""
    return db.execute("SELECT 1 FROM arrays LIMIT 1").fetchone() is not None


def short(db: sqlite3.Connection) -> list[Short]:
    """The arrays of which too few members stand ready, though more could (table arrays: one row for each that
    is partly folded)."""
    return [
        Short(array_id=row["id"], missing=HIGH - row["ready"])
        for row in db.execute(
            "SELECT id, ready FROM arrays WHERE ready < ? AND EXISTS (SELECT 1 FROM folds WHERE array_id ="
            " arrays.id AND state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0)"
            " ORDER BY ready",
            (LOW,),
        )
    ]


def refill(db: sqlite3.Connection, array_id: int, count: int, now: float) -> int:
    """Unfolds the next members of an array that could start, at most `count`; how many it were."""
    row = db.execute(
        "SELECT * FROM folds WHERE array_id = ? AND state = 'pending' AND held = 0 AND deps_waiting = 0"
        " AND deps_failed = 0 ORDER BY id LIMIT 1",
        (array_id,),
    ).fetchone()
    if row is None:
        return 0
    fold = Fold(row)
    last = min(fold.last, fold.first + count - 1)
    unfold(db, fold, fold.first, last, now)
    return last - fold.first + 1


def covered(db: sqlite3.Connection, ids: Sequence[int], *, pending: bool = False) -> set[int]:
    """Those of `ids` that are folded jobs; with `pending` only those that still wait."""
    only = " WHERE state = 'pending'" if pending else ""
    spans = [
        (row["id"], row["last_id"]) for row in db.execute(f"SELECT id, last_id FROM folds{only} ORDER BY id")
    ]
    found = set()
    for job_id in ids if spans else ():
        span = bisect_right(spans, job_id, key=lambda one: one[0]) - 1
        if span >= 0 and job_id <= spans[span][1]:
            found.add(job_id)
    return found


def newest(folds: Sequence[Fold], *, below: int | None) -> Iterator[Job]:
    """All jobs of some folds, which come with the highest ids first, from the highest id on; only those with
    an id under `below`."""
    for fold in folds:
        top = fold.last if below is None else min(fold.last, below - 1)
        for job_id in range(top, fold.first - 1, -1):
            yield fold.member(job_id)


def in_order(folds: Sequence[Fold], *, after: tuple[int, int] | None) -> Iterator[Job]:
    """All jobs of some folds, which come in the order of the queue, in that order; only those after
    (priority, id)."""
    for fold in folds:
        first = fold.first
        if after is not None and fold.row["priority"] == after[0]:
            first = max(first, after[1] + 1)
        for job_id in range(first, fold.last + 1):
            yield fold.member(job_id)
