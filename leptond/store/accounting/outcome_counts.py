"""The outcomes of attempts, in the order in which they happened, for the counters of the metrics."""

from __future__ import annotations

import sqlite3

import msgspec

from leptond.core.jobs.model import LIVE
from leptond.core.jobs.states import State
from leptond.store.database import events


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """A move of a job. `wait_s`: of a first start, from the submission (or the begin time) to its claim;
    `run_s`: of an attempt that ended. `cause` is the failure class of one that comes back. `jobs`: so many
    moved, compact members of an array."""

    to: str
    requeued: bool
    cause: str | None
    wait_s: float | None
    run_s: float | None
    jobs: int = 1


def after(db: sqlite3.Connection, last_id: int, *, limit: int) -> tuple[list[Outcome], int]:
    """The moves in the events with ids above `last_id`, `limit` of them at most, and the id to go on from
    (primary keys of events and jobs, and the attempts of a job)."""
    rows = db.execute(
        "SELECT e.id, e.type, json_extract(e.data, '$.from') AS before,"
        " json_extract(e.data, '$.to') AS after, json_extract(e.data, '$.class') AS class,"
        " json_extract(e.data, '$.jobs') AS jobs, e.attempt, a.claimed_at, a.run_s, j.submitted_at,"
        " j.begin_at FROM events e LEFT JOIN jobs j ON j.id = e.job_id"
        " LEFT JOIN attempts a ON a.job_id = e.job_id AND a.number = e.attempt"
        " WHERE e.id > ? AND e.type IN ('job.state', 'job.requeued', 'array.cancelled')"
        " ORDER BY e.id LIMIT ?",
        (last_id, limit),
    ).fetchall()
    found = []
    for row in rows:
        first = row["after"] == State.STARTING and row["attempt"] == 1 and row["claimed_at"] is not None
        since = max(row["submitted_at"] or 0.0, row["begin_at"] or 0.0)
        found.append(
            Outcome(
                to="cancelled" if row["type"] == "array.cancelled" else row["after"],
                requeued=row["type"] == "job.requeued",
                cause=row["class"],
                wait_s=max(0.0, row["claimed_at"] - since) if first else None,
                # a job that is cancelled while it waits names its last attempt, which has been counted
                jobs=row["jobs"] or 1,
                run_s=row["run_s"] if row["before"] in LIVE and row["after"] not in LIVE else None,
            )
        )
    # what lies behind the last of them are events of other kinds: not to be looked at again
    return found, rows[-1]["id"] if len(rows) == limit else max(last_id, events.last_id(db))
