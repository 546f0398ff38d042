"""Sets of jobs that are changed as one: all of somebody, of a name, of an array, or named one by one. Pending
jobs are changed by a few statements, however many they are, in the transaction of the caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec

from leptond.base.errors import Refused
from leptond.core.jobs.model import LIVE, FailureClass, Job, State, StopReason
from leptond.store.database import rows
from leptond.store.database.conditions import IS_LIVE, IS_PENDING, IS_TERMINAL, state_in
from leptond.store.queue import arrays, dependencies, jobs, lists
from leptond.store.queue.compact_arrays import CompactArray

MOST = 25_000
"""Most pending jobs with rows of their own in one transaction: about a second of the writer."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs of a set: those that fulfil `filter`; of these only those of `owner` (None: of everybody), and
    none with an id over `up_to` (None: there is no such bound)."""

    filter: lists.Filter = lists.Filter()
    owner: str | None = None
    up_to: int | None = None

    def conditions(self) -> tuple[str, list[Any]]:
        """The conditions in SQL for ``jobs`` and ``folds``, the owner apart, and their values."""
        where, values = lists.where(self.filter)
        if self.up_to is not None:
            where.append("id <= ?")
            values.append(self.up_to)
        return " AND ".join(where), values

    def own(self) -> tuple[str, list[Any]]:
        """The same with the owner."""
        text, values = self.conditions()
        return (text, values) if self.owner is None else (f"{text} AND user = ?", [*values, self.owner])


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a change: `pending` jobs that waited and `live` ones that ran. `others` belong to others
    than the owner and stay as they are. `last_id` is the highest id that was given out; `more`: there were
    more than one transaction takes."""

    pending: int
    live: int = 0
    others: int = 0
    last_id: int = 0
    more: bool = False


class Chosen:
    """The members of a set: pending rows, noted in the temporary table ``chosen``, pending compact parts of
    arrays, and, where they are asked for, live jobs."""

    def __init__(self, db: sqlite3.Connection, wanted: Wanted, *, with_live: bool, only: str = "1") -> None:
        self._db = db
        own, values = wanted.own()
        own = f"{own} AND {only}"
        db.execute("CREATE TEMP TABLE IF NOT EXISTS chosen (id INTEGER PRIMARY KEY)")
        db.execute("DELETE FROM chosen")
        self._count: int = db.execute(
            f"INSERT INTO chosen SELECT id FROM jobs WHERE {IS_PENDING} AND {own} ORDER BY id DESC LIMIT ?",
            (*values, MOST),
        ).rowcount
        self._more = self._count == MOST
        found = db.execute(f"SELECT * FROM folds WHERE {IS_PENDING} AND {own}", values)
        self.compact = [CompactArray(row) for row in found.fetchall()]
        self.live: list[Job] = []
        if with_live and not self._more:
            running = db.execute(f"SELECT * FROM jobs INDEXED BY jobs_live WHERE {IS_LIVE} AND {own}", values)
            self.live = [rows.job(row) for row in running.fetchall()]
        self._others = 0 if wanted.owner is None else _others(db, wanted, with_live=with_live)

    def changed(self) -> Changed:
        """Return what is done to all of them."""
        last: int = self._db.execute(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'jobs'"
        ).fetchone()[0]
        return Changed(
            pending=self._count + sum(one.count for one in self.compact),
            live=len(self.live),
            others=self._others,
            last_id=last,
            more=self._more,
        )

    def note(self, kind: str, data: dict[str, Any], now: float) -> None:
        """Add an event for each of those with rows."""
        self._db.execute(
            "INSERT INTO events (at, type, job_id, attempt, data)"
            " SELECT ?, ?, id, nullif(attempt, 0), ? FROM jobs WHERE id IN (SELECT id FROM chosen)",
            (now, kind, msgspec.json.encode(data).decode()),
        )

    def update(self, assignments: str, values: Sequence[Any]) -> None:
        """Set columns of those with rows."""
        self._db.execute(
            f"UPDATE jobs SET {assignments}, version = version + 1 WHERE id IN (SELECT id FROM chosen)",
            values,
        )


def _others(db: sqlite3.Connection, wanted: Wanted, *, with_live: bool) -> int:
    """Count the jobs that fulfil the conditions and belong to others than the owner."""
    text, values = wanted.conditions()
    states = state_in({State.PENDING, *LIVE} if with_live else {State.PENDING})
    total: int = db.execute(
        f"SELECT (SELECT count(*) FROM jobs WHERE {states} AND {text} AND user <> ?)"
        f" + (SELECT coalesce(sum(last_id - id + 1), 0) FROM folds WHERE {IS_PENDING} AND {text}"
        " AND user <> ?)",
        (*values, wanted.owner, *values, wanted.owner),
    ).fetchone()[0]
    return total


def count(db: sqlite3.Connection, wanted: Wanted, states: Collection[State], *, only: str = "1") -> int:
    """How many jobs of a set are in one of `states`."""
    text, values = wanted.own()
    text = f"{state_in(states)} AND {text} AND {only}"
    total: int = db.execute(
        f"SELECT (SELECT count(*) FROM jobs WHERE {text})"
        f" + (SELECT coalesce(sum(last_id - id + 1), 0) FROM folds WHERE {text})",
        (*values, *values),
    ).fetchone()[0]
    return total


def cancel(
    db: sqlite3.Connection, wanted: Wanted, *, by: str, grace_s: float | None, reason: str | None, now: float
) -> Changed:
    """Cancel all of a set that have not ended: those that wait are gone, those that run are told to stop, so
    that none of the set can start in between."""
    chosen = Chosen(db, wanted, with_live=True)
    why = f"cancelled by {by}" + (f": {reason}" if reason else "")
    told = {"class": FailureClass.CANCELLED, "exit_code": None, "explanation": why}
    chosen.note("job.state", {"from": State.PENDING, "to": State.CANCELLED, **told}, now)
    chosen.update(
        f"state = '{State.CANCELLED}', ended_at = ?, backoff_at = NULL, backoff_boot = NULL,"
        f" never_cause = NULL, class = '{FailureClass.CANCELLED}', explanation = ?",
        (now, why),
    )
    arrays.cancel_parts(db, chosen.compact, by=by, why=why, now=now)
    dependencies.resolve(db, _ended(db), now)
    for job in chosen.live:
        grace = grace_s if grace_s is not None else (job.spec.grace_s or 0.0)
        jobs.stop(db, job, StopReason.CANCEL, by=by, grace_s=grace, now=now)
    return chosen.changed()


def _ended(db: sqlite3.Connection) -> list[dependencies.Ended]:
    """The cancelled ones that others wait for, alone or as members of an array."""
    return [
        dependencies.Ended(
            first=row["id"],
            last=row["id"],
            array_id=row["array_id"],
            state=State.CANCELLED,
            root_id=row["root_id"],
        )
        for row in db.execute(
            "SELECT id, array_id, root_id FROM jobs WHERE id IN (SELECT id FROM chosen) AND ("
            " EXISTS (SELECT 1 FROM dependencies WHERE on_job_id = jobs.id AND state = 'waiting')"
            " OR root_id IS NOT NULL"
            " OR EXISTS (SELECT 1 FROM array_dependencies WHERE on_array_id = jobs.array_id))"
        )
    ]


def hold(db: sqlite3.Connection, wanted: Wanted, *, by: str, now: float) -> Changed:
    """Keep all of a set that wait from starting; those that are held already count."""
    already = _held(db, wanted, 1)
    chosen = Chosen(db, wanted, with_live=False, only="held = 0")
    chosen.note("job.held", {"by": by}, now)
    chosen.update("held = 1, hold_reason = ?", (f"held by {by}",))
    arrays.set_held(db, chosen.compact, held=True, reason=f"held by {by}", by=by, now=now)
    done = chosen.changed()
    return msgspec.structs.replace(done, pending=done.pending + already)


def release(db: sqlite3.Connection, wanted: Wanted, *, by: str, now: float) -> Changed:
    """Undo :func:`hold`; those that are not held count."""
    already = _held(db, wanted, 0)
    chosen = Chosen(db, wanted, with_live=False, only="held = 1")
    chosen.note("job.released", {"by": by}, now)
    # whoever looked at them gives them a fresh budget against the machine's failures
    chosen.update("held = 0, hold_reason = NULL, spent_requeue = 0", ())
    arrays.set_held(db, chosen.compact, held=False, reason=None, by=by, now=now)
    done = chosen.changed()
    return msgspec.structs.replace(done, pending=done.pending + already)


def _held(db: sqlite3.Connection, wanted: Wanted, held: int) -> int:
    """Count those that are as they are wanted already; 0 when a set is changed in a further transaction."""
    return 0 if wanted.up_to is not None else count(db, wanted, {State.PENDING}, only=f"held = {held}")


def meanwhile(db: sqlite3.Connection, wanted: Wanted, after: int, most: int) -> tuple[int, list[str]]:
    """The unfinished jobs that fulfil the filter of a set and came after the id `after`: how many, and the
    names of the first `most`."""
    own, values = msgspec.structs.replace(wanted, up_to=None).own()
    found = db.execute(
        f"SELECT id, array_id, array_index FROM jobs WHERE id > ? AND ended_at IS NULL AND {own} ORDER BY id",
        (after, *values),
    ).fetchall()
    compact: int = db.execute(
        f"SELECT coalesce(sum(last_id - id + 1), 0) FROM folds WHERE id > ? AND {IS_PENDING} AND {own}",
        (after, *values),
    ).fetchone()[0]
    return len(found) + compact, [rows.ref(row) for row in found[:most]]


def finished(
    db: sqlite3.Connection, wanted: Wanted, below: int, limit: int
) -> tuple[list[int], list[tuple[int, int]]]:
    """The newest jobs of a set that have ended and have ids under `below`: the ids of at most `limit` with
    rows, and the spans of compact ones."""
    own, values = wanted.own()
    found = db.execute(
        f"SELECT id FROM jobs WHERE id < ? AND {IS_TERMINAL} AND {own} ORDER BY id DESC LIMIT ?",
        (below, *values, limit),
    ).fetchall()
    spans = db.execute(f"SELECT id, last_id FROM folds WHERE {IS_TERMINAL} AND {own}", values).fetchall()
    return [row["id"] for row in found], [(row["id"], row["last_id"]) for row in spans]


def each(
    db: sqlite3.Connection, refs: Sequence[str], change: Callable[[str], Changed]
) -> tuple[Changed, list[tuple[str, Refused]]]:
    """Change jobs and whole arrays that are named one by one; those that cannot be are answered with why."""
    refused: list[tuple[str, Refused]] = []
    pending = live = others = 0
    for ref in refs:
        try:
            done = change(ref)
        except Refused as error:
            refused.append((ref, error))
            continue
        pending, live, others = pending + done.pending, live + done.live, others + done.others
    return Changed(pending=pending, live=live, others=others), refused
