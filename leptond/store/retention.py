"""What has been kept long enough: finished jobs, their output, and old events. Found by a reader, removed in
small slices, so that no submit waits for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from leptond.core.keeping import Keep
from leptond.store import events

SLICE = 20
"""Jobs, outputs or (times 25) events in one transaction: a few milliseconds of the writer."""

MOST = 10_000
"""Most jobs of one pass."""


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """The stored output of an ended attempt."""

    attempt_id: str
    job_id: int
    number: int
    bytes: int


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """What may go now. `events_to`: every event up to this id (0: none)."""

    jobs: Sequence[int]
    outputs: Sequence[Output]
    events_to: int


def due(db: sqlite3.Connection, limits: Keep, now: float) -> Due:
    """What is over its limits at `now` (index jobs_ended, 0001; attempts_output, of the migration named
    retention)."""
    needed = _needed(db)
    jobs: dict[int, None] = {}
    if limits.job_age_s:
        jobs.update(_oldest(db, needed, "ended_at < ?", (now - limits.job_age_s,), MOST))
    if limits.max_jobs:
        row = db.execute(
            "SELECT sum(n) FROM job_counts WHERE state IN"
            " ('succeeded', 'failed', 'timed_out', 'cancelled', 'lost')"
        ).fetchone()
        over = min(MOST, (row[0] or 0) - limits.max_jobs)
        if over > 0:
            jobs.update(_oldest(db, needed, "ended_at IS NOT NULL", (), over))
    return Due(jobs=list(jobs), outputs=_outputs(db, limits, now, jobs), events_to=_events(db, limits, now))


def _needed(db: sqlite3.Connection) -> set[int]:
    """Finished jobs that an unfinished one still speaks of: it waits or waited for them, is of their array,
    or goes on from their checkpoints."""
    unfinished = "state IN ('pending', 'starting', 'running', 'stopping')"
    found: set[int] = set()
    for query in (
        f"SELECT on_job_id FROM dependencies WHERE job_id IN (SELECT id FROM jobs WHERE {unfinished})",
        "SELECT id FROM jobs WHERE array_id IN"
        f" (SELECT array_id FROM jobs WHERE {unfinished} AND array_id IS NOT NULL)",
        f"SELECT root_id FROM jobs WHERE {unfinished} AND root_id IS NOT NULL",
        "SELECT id FROM jobs WHERE root_id IN"
        f" (SELECT root_id FROM jobs WHERE {unfinished} AND root_id IS NOT NULL)",
    ):
        found.update(row[0] for row in db.execute(query))
    return found


def _oldest(
    db: sqlite3.Connection, needed: set[int], where: str, bound: tuple[float, ...], count: int
) -> dict[int, None]:
    found: dict[int, None] = {}
    for row in db.execute(f"SELECT id FROM jobs WHERE {where} ORDER BY ended_at", bound):
        if row["id"] not in needed:
            found[row["id"]] = None
            if len(found) >= count:
                break
    return found


def _outputs(db: sqlite3.Connection, limits: Keep, now: float, jobs: dict[int, None]) -> list[Output]:
    """Outputs that go without their job: too old, or the oldest of too many bytes."""
    if not limits.log_age_s and not limits.log_total_bytes:
        return []
    left = 0
    if limits.log_total_bytes:
        left = db.execute(
            "SELECT coalesce(sum(log_bytes - log_dropped_bytes), 0) FROM attempts INDEXED BY attempts_output"
            " WHERE state = 'ended' AND log_removed = 0"
        ).fetchone()[0]
    found: list[Output] = []
    for row in db.execute(
        "SELECT a.id, a.job_id, a.number, a.ended_at, a.log_bytes - a.log_dropped_bytes AS bytes"
        " FROM attempts AS a INDEXED BY attempts_output JOIN jobs ON jobs.id = a.job_id"
        " WHERE a.state = 'ended' AND a.log_removed = 0 AND jobs.ended_at IS NOT NULL"
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


def _events(db: sqlite3.Connection, limits: Keep, now: float) -> int:
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
    """Removes finished jobs with their attempts; those of `ids` that nothing has come to need meanwhile. An
    event says so."""
    gone = []
    for job_id in ids:
        row = db.execute("SELECT ended_at, root_id FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None or row["ended_at"] is None or needed_now(db, job_id):
            continue
        db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        events.append(db, now, "job.purged", job=job_id, data={"by": by})
        gone.append(job_id)
    return gone


def needed_now(db: sqlite3.Connection, job_id: int) -> str | None:
    """Why a finished job has to stay; None when nothing unfinished speaks of it."""
    row = db.execute(
        "SELECT jobs.id FROM dependencies JOIN jobs ON jobs.id = dependencies.job_id"
        " WHERE dependencies.on_job_id = ? AND jobs.ended_at IS NULL",
        (job_id,),
    ).fetchone()
    if row is not None:
        return f"job {row['id']} depends on it"
    row = db.execute(
        "SELECT id FROM jobs WHERE ended_at IS NULL AND"
        " root_id = (SELECT coalesce(root_id, id) FROM jobs WHERE id = ?)",
        (job_id,),
    ).fetchone()
    return f"job {row['id']} goes on from its checkpoints" if row is not None else None


def roots(db: sqlite3.Connection, ids: Sequence[int]) -> dict[int, int]:
    """Whose checkpoints the jobs `ids` use."""
    found = {}
    for job_id in ids:
        row = db.execute("SELECT coalesce(root_id, id) FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is not None:
            found[job_id] = row[0]
    return found


def unused_roots(db: sqlite3.Connection, candidates: Sequence[int]) -> list[int]:
    """Those of `candidates` whose checkpoints no job uses any more."""
    return [
        root
        for root in candidates
        if db.execute("SELECT 1 FROM jobs WHERE id = ? OR root_id = ?", (root, root)).fetchone() is None
    ]


def output_gone(db: sqlite3.Connection, attempt_ids: Sequence[str]) -> None:
    """Notes that the output of ended attempts is not kept any more."""
    for attempt_id in attempt_ids:
        db.execute("UPDATE attempts SET log_removed = 1 WHERE id = ? AND state = 'ended'", (attempt_id,))


def forget_events(db: sqlite3.Connection, up_to: int) -> int:
    """Removes a slice of the events up to an id; how many."""
    return db.execute(
        "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE id <= ? ORDER BY id LIMIT ?)",
        (up_to, SLICE * 25),
    ).rowcount
