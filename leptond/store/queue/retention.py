"""Retention: finished jobs, their output, and old events. Found by a reader, removed in
small slices, so that no submit waits for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from leptond.core.jobs.model import State
from leptond.core.retention_limits import RetentionLimits
from leptond.store.database import events
from leptond.store.database.conditions import ATTEMPT_ENDED, IS_PENDING, IS_TERMINAL
from leptond.store.queue import compact_arrays

SLICE = 20
"""Jobs, outputs or (times 25) events in one transaction: a few milliseconds of the writer."""

MOST = 10_000
"""Most jobs of one pass."""

MOST_LOOKS = 100_000
"""Most finished jobs that one pass looks at: those that are still needed are looked at in vain."""


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """The stored output of an ended attempt."""

    attempt_id: str
    job_id: int
    number: int
    bytes: int


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs, outputs and events that may be removed now. `compact`: (first, last) ids of jobs that were
    cancelled before they had rows of their own. `events_to`: every event up to this id (0: none)."""

    jobs: Sequence[int]
    outputs: Sequence[Output]
    events_to: int
    compact: Sequence[tuple[int, int]] = ()


def due(db: sqlite3.Connection, limits: RetentionLimits, now: float) -> Due:
    """Return what is over its limits at `now` (index jobs_ended, 0001; attempts_output, of the migration
    named retention; folds_ended)."""
    look = _Look(db)
    if limits.job_age_s:
        look.take("ended_at < ?", (now - limits.job_age_s,), None)
    if limits.max_jobs:
        row = db.execute(f"SELECT sum(n) FROM job_counts WHERE {IS_TERMINAL}").fetchone()
        look.take("ended_at IS NOT NULL", (), (row[0] or 0) - limits.max_jobs)
    return Due(
        jobs=list(look.jobs),
        outputs=_outputs(db, limits, now, look.jobs),
        events_to=_events(db, limits, now),
        compact=[(first, last) for first, last in look.compact.items()],
    )


class _Look:
    """Go through finished jobs from the oldest on, and skip those that an unfinished one still
    refers to: it waits or waited for them, is of their array, or goes on from their checkpoints."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.jobs: dict[int, None] = {}
        self.compact: dict[int, int] = {}
        self._open: dict[int, bool] = {}

    def take(self, where: str, bound: tuple[float, ...], count: int | None) -> None:
        """Take the oldest that fulfil `where`, `count` at most (None: all; in one pass never more than MOST
        that have rows)."""
        taken = looked = 0
        for row in self._db.execute(
            f"SELECT id, array_id, id AS last_id, ended_at, 0 AS compact FROM jobs WHERE {where} UNION ALL"
            f" SELECT id, array_id, last_id, ended_at, 1 FROM folds WHERE {where} ORDER BY ended_at",
            (*bound, *bound),
        ):
            looked += 1
            if (count is not None and taken >= count) or len(self.jobs) >= MOST or looked > MOST_LOOKS:
                return
            first, last = row["id"], row["last_id"]
            if self._of_open_array(row["array_id"]) or needed_now(self._db, first, last):
                continue
            if row["compact"]:
                last = last if count is None else min(last, first + count - taken - 1)
                self.compact[first] = max(last, self.compact.get(first, 0))
            else:
                self.jobs[first] = None
            taken += last - first + 1

    def _of_open_array(self, array_id: int | None) -> bool:
        """Return True if any member of the array has not ended: one of the last ones, as a rule."""
        if array_id is None:
            return False
        if array_id not in self._open:
            self._open[array_id] = any(
                self._db.execute(query, (array_id,)).fetchone() is not None
                for query in (
                    f"SELECT 1 FROM folds WHERE array_id = ? AND {IS_PENDING} LIMIT 1",
                    "SELECT 1 FROM jobs INDEXED BY jobs_array WHERE array_id = ? AND ended_at IS NULL"
                    " ORDER BY array_index DESC LIMIT 1",
                )
            )
        return self._open[array_id]


def _outputs(
    db: sqlite3.Connection, limits: RetentionLimits, now: float, jobs: dict[int, None]
) -> list[Output]:
    """Outputs that go without their job: too old, or the oldest of too many bytes."""
    if not limits.log_age_s and not limits.log_total_bytes:
        return []
    left = 0
    if limits.log_total_bytes:
        left = db.execute(
            "SELECT coalesce(sum(log_bytes - log_dropped_bytes), 0) FROM attempts INDEXED BY attempts_output"
            f" WHERE {ATTEMPT_ENDED} AND log_removed = 0"
        ).fetchone()[0]
    found: list[Output] = []
    for row in db.execute(
        "SELECT a.id, a.job_id, a.number, a.ended_at, a.log_bytes - a.log_dropped_bytes AS bytes"
        " FROM attempts AS a INDEXED BY attempts_output JOIN jobs ON jobs.id = a.job_id"
        f" WHERE a.{ATTEMPT_ENDED} AND a.log_removed = 0 AND jobs.ended_at IS NOT NULL"
        " ORDER BY a.ended_at"
    ):
        old = bool(limits.log_age_s) and (row["ended_at"] or 0.0) < now - limits.log_age_s
        many = bool(limits.log_total_bytes) and left > limits.log_total_bytes
        if not (old or many) or len(found) >= MOST:
            break
        left -= row["bytes"]
        if row["job_id"] not in jobs:
            found.append(
                Output(attempt_id=row["id"], job_id=row["job_id"], number=row["number"], bytes=row["bytes"])
            )
    return found


def _events(db: sqlite3.Connection, limits: RetentionLimits, now: float) -> int:
    """The id up to which events are too old: ids grow with time, so the first young one ends the search."""
    if not limits.event_age_s:
        return 0
    low = db.execute("SELECT min(id) FROM events").fetchone()[0] or 0
    high = db.execute("SELECT max(id) FROM events").fetchone()[0] or 0
    cut = now - limits.event_age_s
    before: int = low - 1
    while low <= high:
        middle = (low + high) // 2
        row = db.execute(
            "SELECT id, at FROM events WHERE id <= ? ORDER BY id DESC LIMIT 1", (middle,)
        ).fetchone()
        if row is None or row["at"] < cut:
            before, low = middle, middle + 1
        else:
            high = middle - 1
    return max(0, before)


def forget(db: sqlite3.Connection, ids: Sequence[int], *, by: str, now: float) -> list[int]:
    """Remove finished jobs with their attempts; those of `ids` that nothing has come to need meanwhile. An
    event says so."""
    gone = []
    for job_id in ids:
        compact_arrays.expand_one(db, str(job_id), now)
        row = db.execute("SELECT ended_at, root_id FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None or row["ended_at"] is None or needed_now(db, job_id):
            continue
        db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        events.append(db, now, "job.purged", job=job_id, data={"by": by})
        gone.append(job_id)
    return gone


def forget_compact(db: sqlite3.Connection, first: int, last: int, *, by: str, now: float) -> int:
    """Remove jobs that were cancelled before they had rows of their own, unless something has come to need
    them meanwhile; return the number of them. An event says so."""
    part = compact_arrays.at(db, first)
    if part is None or part.state is not State.CANCELLED or needed_now(db, first, last):
        return 0
    last = min(last, part.last)
    compact_arrays.cut(db, part, first, last)
    data = {"first_id": first, "last_id": last, "jobs": last - first + 1, "by": by}
    events.append(db, now, "array.purged", job=part.array_id, data=data)
    return last - first + 1


def needed_now(db: sqlite3.Connection, job_id: int, last: int | None = None) -> str | None:
    """Return why a finished job, or one of those up to `last`, has to stay; None when nothing unfinished
    refers to it."""
    last = job_id if last is None else last
    for query in (
        "SELECT jobs.id FROM dependencies JOIN jobs ON jobs.id = dependencies.job_id"
        " WHERE dependencies.on_job_id BETWEEN ? AND ? AND jobs.ended_at IS NULL",
        "SELECT jobs.id FROM array_dependencies JOIN jobs ON jobs.id = array_dependencies.job_id"
        " WHERE on_array_id IN (SELECT array_id FROM jobs WHERE id BETWEEN ? AND ? UNION"
        " SELECT array_id FROM folds WHERE id <= ?1 AND last_id >= ?1) AND jobs.ended_at IS NULL",
    ):
        row = db.execute(query, (job_id, last)).fetchone()
        if row is not None:
            return f"job {row['id']} depends on it"
    row = db.execute(
        "SELECT id FROM jobs WHERE ended_at IS NULL AND"
        " root_id = (SELECT coalesce(root_id, id) FROM jobs WHERE id = ?)",
        (job_id,),
    ).fetchone()
    if row is not None:
        return f"job {row['id']} goes on from its checkpoints"
    if first_try := _waited_for_again(db, job_id):
        return f"job {first_try} depends on a job that it retries"
    # what the compact members wait or waited for is written down with the first of their array
    row = db.execute("SELECT id FROM folds WHERE array_id = ? LIMIT 1", (job_id,)).fetchone()
    return f"job {row['id']} of its array has not its own row yet" if row is not None else None


def _waited_for_again(db: sqlite3.Connection, job_id: int) -> int | None:
    """The unfinished job that waits for one which `job_id` is a retry of: the retry's end counts for it."""
    row = db.execute("SELECT root_id FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None or row["root_id"] is None:
        return None
    for query in (
        "SELECT jobs.id FROM jobs AS kin JOIN dependencies ON dependencies.on_job_id = kin.id"
        " JOIN jobs ON jobs.id = dependencies.job_id",
        "SELECT jobs.id FROM jobs AS kin JOIN array_dependencies ON on_array_id = kin.array_id"
        " JOIN jobs ON jobs.id = array_dependencies.job_id",
    ):
        found = db.execute(
            f"{query} WHERE (kin.id = ?1 OR kin.root_id = ?1) AND jobs.ended_at IS NULL LIMIT 1",
            (row["root_id"],),
        ).fetchone()
        if found is not None:
            number: int = found["id"]
            return number
    return None


def roots(db: sqlite3.Connection, ids: Sequence[int]) -> dict[int, int]:
    """Map each of the jobs `ids` to the job whose checkpoints it uses."""
    found = {}
    for job_id in ids:
        row = db.execute("SELECT coalesce(root_id, id) FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is not None:
            found[job_id] = row[0]
    return found


def roots_used_only_by(db: sqlite3.Connection, ids: Sequence[int]) -> set[int]:
    """The roots of the jobs `ids` whose checkpoints no other job uses."""
    going = set(ids)
    return {
        root
        for root in set(roots(db, ids).values())
        if going.issuperset(
            row[0] for row in db.execute("SELECT id FROM jobs WHERE id = ? OR root_id = ?", (root, root))
        )
    }


def unused_roots(db: sqlite3.Connection, candidates: Sequence[int]) -> list[int]:
    """Those of `candidates` whose checkpoints no job uses any more."""
    return [
        root
        for root in candidates
        if db.execute("SELECT 1 FROM jobs WHERE id = ? OR root_id = ?", (root, root)).fetchone() is None
    ]


def output_gone(db: sqlite3.Connection, attempt_ids: Sequence[str]) -> None:
    """Note that the output of ended attempts is not kept any more."""
    for attempt_id in attempt_ids:
        db.execute(f"UPDATE attempts SET log_removed = 1 WHERE id = ? AND {ATTEMPT_ENDED}", (attempt_id,))


def count_events(db: sqlite3.Connection, up_to: int) -> int:
    """The number of events up to an id."""
    count: int = db.execute("SELECT count(*) FROM events WHERE id <= ?", (up_to,)).fetchone()[0]
    return count


def forget_events(db: sqlite3.Connection, up_to: int) -> int:
    """Remove a slice of the events up to an id; how many."""
    return db.execute(
        "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE id <= ? ORDER BY id LIMIT ?)",
        (up_to, SLICE * 25),
    ).rowcount
