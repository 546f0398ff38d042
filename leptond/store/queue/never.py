"""Jobs that can never start: they wait, directly or behind others, for an end that cannot happen any more.

Each of them, while it is pending, has in `never_cause` the job whose end was the first cause. A job waits
only for older ones, so that a wave of changes goes through the queue once, by ascending ids."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterable, Iterator

from leptond.core.jobs.dependency import never_sentence
from leptond.core.jobs.model import DependencyKind, Job, State
from leptond.store.database import rows
from leptond.store.database.conditions import IS_PENDING, IS_TERMINAL

IS_NEVER = "never_cause IS NOT NULL"


def update(db: sqlite3.Connection, job_ids: Iterable[int]) -> None:
    """Bring `never_cause` of these jobs, and of all that wait behind them, up to date. The compact members of
    an array go with its first member."""
    waiting = sorted(set(job_ids))
    done = 0
    while waiting:
        job_id = heapq.heappop(waiting)
        if job_id == done:
            continue
        done = job_id
        if _set(db, job_id, _cause(db, job_id)):
            for behind in _behind(db, job_id):
                heapq.heappush(waiting, behind)


def count(db: sqlite3.Connection) -> int:
    """Count the jobs that can never start (indexes jobs_never, folds_never)."""
    total: int = db.execute(
        f"SELECT (SELECT count(*) FROM jobs INDEXED BY jobs_never WHERE {IS_NEVER})"
        f" + (SELECT coalesce(sum(last_id - id + 1), 0) FROM folds WHERE {IS_NEVER})"
    ).fetchone()[0]
    return total


def sentence(db: sqlite3.Connection, job: Job) -> str:
    """The reason, for people, why a job can never start: the first cause, and what is between."""
    assert job.never_cause is not None
    cause = db.execute(
        "SELECT id, array_id, array_index, state FROM jobs WHERE id = ?", (job.never_cause,)
    ).fetchone()
    if cause is None:
        return "a job that it waits for did not end as it needs"
    before = None if job.deps_failed else _before(db, job)
    return never_sentence(rows.ref(cause), State(cause["state"]), before)


def _before(db: sqlite3.Connection, job: Job) -> str:
    """The first of those that a job waits for, of those that can never run."""
    asked = job.id
    if (
        job.array_id is not None
        and db.execute("SELECT 1 FROM jobs WHERE id = ?", (job.id,)).fetchone() is None
    ):
        asked = job.array_id
    for query in _NEVER_ONES:
        row = db.execute(query, (asked,)).fetchone()
        if row is not None:
            return rows.ref(row)
    return "of an array"


def _set(db: sqlite3.Connection, job_id: int, cause: int | None) -> bool:
    """Store the cause; True if that changes anything."""
    changed = 0
    for table, key in (("jobs", "id"), ("folds", "array_id")):
        changed += db.execute(
            f"UPDATE {table} SET never_cause = ?1"
            f" WHERE {key} = ?2 AND {IS_PENDING} AND never_cause IS NOT ?1",
            (cause, job_id),
        ).rowcount
    return changed > 0


def _behind(db: sqlite3.Connection, job_id: int) -> Iterator[int]:
    """The jobs that wait for a job, for the compact members that go with it, or for an array of theirs."""
    spans = [(job_id, job_id)]
    row = db.execute("SELECT array_id FROM jobs WHERE id = ?", (job_id,)).fetchone()
    array_id = row["array_id"] if row is not None else job_id
    if array_id == job_id:
        found = db.execute(f"SELECT id, last_id FROM folds WHERE array_id = ? AND {IS_PENDING}", (job_id,))
        spans += [(row["id"], row["last_id"]) for row in found]
    for span in spans:
        for row in db.execute(
            "SELECT job_id FROM dependencies WHERE on_job_id BETWEEN ? AND ? AND state = 'waiting'", span
        ):
            yield row["job_id"]
    if array_id is not None:
        for row in db.execute(
            "SELECT job_id FROM array_dependencies WHERE on_array_id = ? AND waiting > 0", (array_id,)
        ):
            yield row["job_id"]


_BEHIND_OTHERS = (
    "SELECT jobs.never_cause FROM dependencies AS d JOIN jobs ON jobs.id = d.on_job_id"
    " WHERE d.job_id = ? AND d.state = 'waiting' AND jobs.never_cause IS NOT NULL LIMIT 1",
    "SELECT folds.never_cause FROM dependencies AS d JOIN folds"
    " ON folds.id = (SELECT id FROM folds WHERE id <= d.on_job_id ORDER BY id DESC LIMIT 1)"
    " WHERE d.job_id = ? AND d.state = 'waiting' AND folds.last_id >= d.on_job_id"
    " AND folds.never_cause IS NOT NULL LIMIT 1",
    "SELECT jobs.never_cause FROM array_dependencies AS a JOIN jobs INDEXED BY jobs_never"
    " ON jobs.array_id = a.on_array_id WHERE a.job_id = ? AND a.waiting > 0 AND jobs.never_cause IS NOT NULL"
    " LIMIT 1",
    "SELECT folds.never_cause FROM array_dependencies AS a JOIN folds INDEXED BY folds_never"
    " ON folds.array_id = a.on_array_id WHERE a.job_id = ? AND a.waiting > 0"
    " AND folds.never_cause IS NOT NULL LIMIT 1",
)
"""The causes of those that a job still waits for."""

_NEVER_ONES = (
    "SELECT jobs.id, jobs.array_id, jobs.array_index FROM dependencies AS d"
    " JOIN jobs ON jobs.id = d.on_job_id WHERE d.job_id = ? AND d.state = 'waiting'"
    " AND jobs.never_cause IS NOT NULL ORDER BY jobs.id LIMIT 1",
    "SELECT jobs.id, jobs.array_id, jobs.array_index FROM array_dependencies AS a"
    " JOIN jobs INDEXED BY jobs_never ON jobs.array_id = a.on_array_id"
    " WHERE a.job_id = ? AND a.waiting > 0 AND jobs.never_cause IS NOT NULL LIMIT 1",
    "SELECT d.on_job_id AS id, NULL AS array_id, NULL AS array_index FROM dependencies AS d"
    " WHERE d.job_id = ? AND d.state = 'waiting' ORDER BY d.on_job_id LIMIT 1",
)
"""Those themselves; the last one for compact members of an array, which have no rows."""


def _cause(db: sqlite3.Connection, job_id: int) -> int | None:
    """The job because of which this one can never start; None when it can."""
    for query in (
        "SELECT deps_failed, deps_waiting FROM jobs WHERE id = ?",
        f"SELECT deps_failed, deps_waiting FROM folds WHERE array_id = ? AND {IS_PENDING} LIMIT 1",
    ):
        row = db.execute(query, (job_id,)).fetchone()
        if row is not None:
            break
    if row is None:
        return None
    if row["deps_failed"]:
        return _failed(db, job_id)
    for query in _BEHIND_OTHERS if row["deps_waiting"] else ():
        found = db.execute(query, (job_id,)).fetchone()
        if found is not None:
            cause: int = found["never_cause"]
            return cause
    return None


def _failed(db: sqlite3.Connection, job_id: int) -> int:
    """The first job that did not end as `job_id` needs."""
    row = db.execute(
        "SELECT on_job_id FROM dependencies WHERE job_id = ? AND state = 'failed' ORDER BY on_job_id LIMIT 1",
        (job_id,),
    ).fetchone()
    if row is not None:
        on: int = row["on_job_id"]
        return on
    row = db.execute(
        "SELECT on_array_id, kind FROM array_dependencies WHERE job_id = ? AND failed > 0"
        " ORDER BY on_array_id LIMIT 1",
        (job_id,),
    ).fetchone()
    sign = "=" if row["kind"] == DependencyKind.FAIL else "<>"
    member = db.execute(
        f"SELECT id FROM jobs WHERE array_id = ? AND {IS_TERMINAL} AND state {sign} '{State.SUCCEEDED}'"
        " AND class IS NOT 'stopped-early' ORDER BY array_index LIMIT 1",
        (row["on_array_id"],),
    ).fetchone()
    first: int = member["id"] if member is not None else row["on_array_id"]
    return first
