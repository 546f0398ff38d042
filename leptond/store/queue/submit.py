"""Putting jobs into the queue, many at a time."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from leptond.core.admission.admission import Admitted
from leptond.core.jobs.model import DependencyKind
from leptond.store.database import events, inserts, rows
from leptond.store.queue import compact_arrays, dependencies, order_keys, scripts
from leptond.store.queue.compact_arrays import ANNOUNCED

MOST = 1024
"""Most jobs whose rows wait to be written together."""


COUNTED_FROM = 8
"""Fewer jobs are counted one by one, as they are inserted."""


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


class Insertion:
    """Jobs that are stored in one transaction: what they have in common is looked up once, and their rows are
    written together, by :meth:`flush` at the latest. Ids follow each other."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._places = order_keys.Places(db)
        self._next = next_id(db)
        self._rows = _Rows(db)

    def flush(self) -> None:
        """Write what is not written yet."""
        self._rows.flush()

    def add(
        self,
        admitted: Sequence[Admitted],
        *,
        user: str,
        uid: int | None = None,
        now: float,
        retry_of: int | None = None,
        root: int | None = None,
        together: Together | None = None,
    ) -> list[Stored]:
        """Add the jobs of admitted specs (none of them an array where they come `together`), whose owner is
        the account `user` with this `uid`, where that is known. Raises Invalid for a dependency on what is
        not there; then nothing may stay."""
        first = self._next
        rows: dict[int, _Row] = {}  # the members of a batch are often one spec
        stored: list[Stored] = []
        for one in admitted:
            row = rows.get(id(one))
            if row is None:
                scripts.keep(self._db, one.script)
                row = rows[id(one)] = self._row(one, (user, uid), now, retry_of, root, together)
            array_id = first if together is not None else self._next if one.indices is not None else None
            self._add(one, row, array_id, self._next - first if together is not None else None)
            stored.append(Stored(id=self._next, count=one.count, array_id=array_id, name=one.name))
            self._next += one.count
        return stored

    def _row(
        self,
        one: Admitted,
        owner: tuple[str, int | None],
        now: float,
        retry_of: int | None,
        root: int | None,
        together: Together | None,
    ) -> _Row:
        user, uid = owner
        values = {
            **_columns(one, user=user, uid=uid, now=now),
            "array_limit": together.limit if together is not None else one.array_limit,
            "retry_of": retry_of,
            "root_id": root,
            **self._places.columns(one.spec, user=user, now=now, begin_at=one.begin_at),
        }
        announced = {name: values[name] for name in ANNOUNCED}
        if retry_of is not None:
            announced["retry_of"] = retry_of
        return _Row(now, tuple(values), tuple(values.values()), announced, _json(announced))

    def _add(self, one: Admitted, row: _Row, array_id: int | None, index: int | None) -> None:
        """Add the jobs of one spec; `index`: its own in an array of specs that come together."""
        waits = bool(one.spec.after or one.spec.after_any or one.spec.after_fail)
        if array_id is None:
            self._rows.add(row, self._next, None, None, row.data)
            if waits:
                self._wait(self._next, one)
            return
        apart = _apart(one, waits)
        for position in range(apart):
            at = one.indices[position] if one.indices is not None else index
            data = _json({**row.announced, "array_id": array_id, "array_index": at})
            self._rows.add(row, self._next + position, array_id, at, data)
            if waits:
                self._wait(self._next + position, one)
        if apart < one.count:
            self._rows.flush()
            last = self._next + one.count - 1
            compact_arrays.begin(self._db, array_id, self._next + apart, last)
            more = {**row.announced, "array": one.spec.array, "jobs": one.count, "last_id": last}
            events.append(self._db, row.now, "array.submitted", job=array_id, data=more)

    def _wait(self, job_id: int, one: Admitted) -> None:
        self._rows.flush()
        for refs, kind, field in (
            (one.spec.after, DependencyKind.OK, "after"),
            (one.spec.after_any, DependencyKind.ANY, "after_any"),
            (one.spec.after_fail, DependencyKind.FAIL, "after_fail"),
        ):
            if refs:
                dependencies.add(self._db, job_id, refs, kind, field)


def insert(
    db: sqlite3.Connection, admitted: Sequence[Admitted], *, user: str, now: float, **more: Any
) -> list[Stored]:
    """Store the jobs of admitted specs, as :meth:`Insertion.add`, and write their rows."""
    insertion = Insertion(db)
    stored = insertion.add(admitted, user=user, now=now, **more)
    insertion.flush()
    return stored


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _columns(one: Admitted, *, user: str, uid: int | None, now: float) -> dict[str, Any]:
    """Return the columns of ``jobs`` that follow from an admitted spec."""
    spec = one.spec
    return {
        **rows.columns_of(spec),
        "spec": _json(spec),
        "name": one.name,
        "user": user,
        "uid": uid,
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


class _Row(NamedTuple):
    """What the rows of a spec have in common: the values of `columns`, and what their events say (`data`: as
    JSON, for a job that is no member of an array). `now`: UTC seconds."""

    now: float
    columns: tuple[str, ...]
    values: tuple[Any, ...]
    announced: dict[str, Any]
    data: str


_NUMBERS = ("id", "array_id", "array_index")
_OWN: tuple[frozenset[str], ...] = (
    frozenset(),
    frozenset({"spec", "name", "labels"}),
    frozenset({"spec", "name", "labels", "submitted_at", "order_at", "due_at", "alone_at"}),
)
"""Columns in which jobs that are stored together may differ, beside their numbers: nothing, what the members
of a batch differ in, and what submits of different moments do. Others differ in all columns. (Each choice is
statements that stay prepared, so there are few.)"""


class _Rows:
    """Rows that are about to be written, with their events."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._jobs: list[tuple[_Row, int, int | None, int | None]] = []
        self._events: list[tuple[Any, ...]] = []

    def add(self, row: _Row, job_id: int, array_id: int | None, index: int | None, data: str) -> None:
        self._jobs.append((row, job_id, array_id, index))
        self._events.append((row.now, job_id, data))
        if len(self._jobs) == MOST:
            self.flush()

    def flush(self) -> None:
        if not self._jobs:
            return
        some = {id(row): row for row, *_ in self._jobs}.values()
        columns = self._jobs[0][0].columns
        own = _differing(columns, [row.values for row in some])
        common = {
            name: value
            for name, value in zip(columns, self._jobs[0][0].values, strict=True)
            if name not in own
        }
        picked = [columns.index(name) for name in own]
        jobs = [(*numbers, *[row.values[position] for position in picked]) for row, *numbers in self._jobs]
        together = len(jobs) >= COUNTED_FROM
        if together:
            self._count(columns)
        inserts.insert(self._db, "jobs", common, (*_NUMBERS, *own), jobs)
        if together:
            self._db.execute("DELETE FROM counted_together")
        inserts.insert(self._db, "events", {"type": "job.submitted"}, ("at", "job_id", "data"), self._events)
        self._jobs.clear()
        self._events.clear()

    def _count(self, columns: Sequence[str]) -> None:
        """Count the jobs at once; until the row that says so is deleted, no trigger counts them."""
        at = [columns.index(name) for name in ("user", "queue", "project", "held")]
        counts = Counter(tuple(row.values[position] for position in at) for row, *_ in self._jobs)
        for kind, n in counts.items():
            self._db.execute(
                "INSERT INTO counted_together (user, queue, project, held, n) VALUES (?, ?, ?, ?, ?)",
                (*kind, n),
            )


def _differing(columns: Sequence[str], found: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return the columns, in their order, that rows with these values may not share."""
    if len(found) == 1:
        return []
    first = found[0]
    differ = {
        name
        for name, value, column in zip(columns, first, zip(*found, strict=True), strict=True)
        if column.count(value) < len(column)
    }
    own = next((some for some in _OWN if differ <= some), None)
    return [name for name in columns if own is None or name in own]
