"""Putting jobs into the queue, many at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from leptond.core.admission.admission import Admitted
from leptond.core.jobs.model import DependencyKind
from leptond.store.database import events, rows
from leptond.store.queue import compact_arrays, dependencies, order_keys, scripts
from leptond.store.queue.compact_arrays import ANNOUNCED

CHUNK = 50
"""Rows in one statement: each statement hands the interpreter's lock over, which costs more than a row."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs that one submitted spec became: `count` with the ids from `id` on, and what their owner was
    warned of."""

    id: int
    count: int = 1
    array_id: int | None
    name: str
    warnings: list[str] = []

    @property
    def ids(self) -> range:
        """The ids of all of them."""
        return range(self.id, self.id + self.count)


class Together(msgspec.Struct, frozen=True, kw_only=True):
    """Jobs of one submit that make an array although each has a spec of its own; at most `limit` of them run
    at a time (None: any number)."""

    limit: int | None = None


class _Before3(msgspec.Struct, frozen=True, kw_only=True):
    """The stored form of Stored before 0.3.0."""

    ids: list[int]
    array_id: int | None
    name: str


_stored = msgspec.json.Decoder(list[Stored])
_before3 = msgspec.json.Decoder(list[_Before3])


def remembered(text: str) -> list[Stored]:
    """Decode an earlier answer (JSON)."""
    if '"ids"' not in text[:200]:
        return _stored.decode(text)
    return [
        Stored(id=old.ids[0], count=len(old.ids), array_id=old.array_id, name=old.name)
        for old in _before3.decode(text)
    ]


def next_id(db: sqlite3.Connection) -> int:
    """The id of the next job."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
    return 1 + (row["seq"] if row is not None else 0)


def insert(
    db: sqlite3.Connection,
    admitted: Sequence[Admitted],
    *,
    user: str,
    now: float,
    retry_of: int | None = None,
    root: int | None = None,
    together: Together | None = None,
) -> list[Stored]:
    """Store the jobs of admitted specs (none of them an array where they come `together`), with ids that
    follow each other. Raises Invalid for a dependency on
    what is not there; then nothing may stay."""
    places = order_keys.Places(db)
    first = job_id = next_id(db)
    stored: list[Stored] = []
    pending = _Pending(db, now)
    for one in admitted:
        spec = one.spec
        scripts.keep(db, one.script)
        array_id = first if together is not None else job_id if one.indices is not None else None
        values = {
            **_columns(one, user=user, now=now),
            "array_id": array_id,
            "array_limit": together.limit if together is not None else one.array_limit,
            "retry_of": retry_of,
            "root_id": root,
            **places.columns(spec, user=user, now=now, begin_at=one.begin_at),
        }
        announced = {name: values[name] for name in ANNOUNCED}
        if retry_of is not None:
            announced["retry_of"] = retry_of
        waits = bool(spec.after or spec.after_any or spec.after_fail)
        apart = _apart(one, waits)
        for position in range(apart):
            index = one.indices[position] if one.indices is not None else None
            if together is not None:
                index = job_id - first
            data = (
                announced if array_id is None else {**announced, "array_id": array_id, "array_index": index}
            )
            pending.add(job_id + position, index, values, data)
            if waits:
                pending.flush()
                _wait(db, job_id + position, one)
        if array_id is not None and apart < one.count:
            pending.flush()
            last = job_id + one.count - 1
            compact_arrays.begin(db, array_id, job_id + apart, last)
            data = {**announced, "array": spec.array, "jobs": one.count, "last_id": last}
            events.append(db, now, "array.submitted", job=array_id, data=data)
        stored.append(Stored(id=job_id, count=one.count, array_id=array_id, name=one.name))
        job_id += one.count
    pending.flush()
    return stored


def _columns(one: Admitted, *, user: str, now: float) -> dict[str, Any]:
    """Return the columns of ``jobs`` that follow from an admitted spec."""
    spec = one.spec
    return {
        **rows.columns_of(spec),
        "spec": msgspec.json.encode(spec).decode(),
        "name": one.name,
        "user": user,
        "held": int(spec.hold),
        "hold_reason": "held at submission" if spec.hold else None,
        "begin_at": one.begin_at,
        "submitted_at": now,
        "script_sha256": one.script.sha256 if one.script is not None else None,
        "sources": one.sources,
    }


def _apart(one: Admitted, waits: bool) -> int:
    """Return how many of the jobs get rows at once. Jobs that wait for others, or are held, need none yet:
    the first member of the array represents all."""
    if one.count <= compact_arrays.OVER:
        return one.count
    return 1 if waits or one.spec.hold else compact_arrays.AT_ONCE


def _wait(db: sqlite3.Connection, job_id: int, one: Admitted) -> None:
    for refs, kind, field in (
        (one.spec.after, DependencyKind.OK, "after"),
        (one.spec.after_any, DependencyKind.ANY, "after_any"),
        (one.spec.after_fail, DependencyKind.FAIL, "after_fail"),
    ):
        if refs:
            dependencies.add(db, job_id, refs, kind, field)


class _Pending:
    """Rows that are about to be written, with their events."""

    def __init__(self, db: sqlite3.Connection, now: float) -> None:
        self._db = db
        self._now = now
        self._columns: tuple[str, ...] = ()
        self._jobs: list[tuple[Any, ...]] = []
        self._events: list[tuple[Any, ...]] = []

    def add(
        self, job_id: int, array_index: int | None, values: dict[str, Any], event: dict[str, Any]
    ) -> None:
        self._columns = ("id", "array_index", *values)
        self._jobs.append((job_id, array_index, *values.values()))
        data = msgspec.json.encode(event).decode()
        self._events.append((self._now, "job.submitted", job_id, data))
        if len(self._jobs) == CHUNK:
            self.flush()

    def flush(self) -> None:
        for part in _chunks(self._jobs):
            _insert(self._db, "jobs", self._columns, part)
        for part in _chunks(self._events):
            _insert(self._db, "events", ("at", "type", "job_id", "data"), part)
        self._jobs.clear()
        self._events.clear()


def _chunks(rows: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Whole chunks, then single rows: two statements that stay prepared."""
    if len(rows) == CHUNK:
        yield rows
    else:
        yield from ([row] for row in rows)


def _insert(
    db: sqlite3.Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    marks = f"({', '.join('?' * len(columns))})"
    db.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([marks] * len(rows))}",
        [value for row in rows for value in row],
    )
