"""Which jobs want a copy of their output, and when it is time for it."""

from __future__ import annotations

import sqlite3

import msgspec

from leptond.core.jobs.model import LIVE, TERMINAL, Job
from leptond.core.jobs.states import State
from leptond.store.database import events, rows
from leptond.store.upkeep import webhooks

FOLLOWER = "output files"
"""The name of this follower among those of the webhooks, none of which has a space in it."""


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that has begun to run, or (`over`) has ended."""

    job: Job
    attempt: int
    over: bool


def position(db: sqlite3.Connection) -> int:
    """The last event that is done with."""
    return webhooks.position(db, FOLLOWER)


def passed(db: sqlite3.Connection, event_id: int) -> None:
    """Events up to this one are done with."""
    webhooks.passed(db, FOLLOWER, event_id)


def after(db: sqlite3.Connection, last_id: int, *, limit: int) -> tuple[list[Due], int, bool]:
    """Return what is due by the events above `last_id`, oldest first, the id to go on from, and whether there
    are more than `limit` of them."""
    newest = events.last_id(db)
    found = db.execute(
        "SELECT e.id AS event_id, e.attempt AS of_attempt, json_extract(e.data, '$.from') AS before,"
        " json_extract(e.data, '$.to') AS after, j.id FROM events e JOIN jobs j ON j.id = e.job_id"
        " WHERE e.id > ? AND e.type IN ('job.state', 'job.requeued') AND e.attempt IS NOT NULL"
        " AND json_extract(j.spec, '$.output') IS NOT NULL ORDER BY e.id LIMIT ?",
        (last_id, limit),
    ).fetchall()
    due = []
    for row in found:
        over = row["before"] in LIVE and (row["after"] == State.PENDING or row["after"] in TERMINAL)
        if over or row["after"] == State.RUNNING:
            job = rows.job(db.execute("SELECT * FROM jobs WHERE id = ?", (row["id"],)).fetchone())
            due.append(Due(job=job, attempt=row["of_attempt"], over=over))
    more = len(found) == limit
    return due, found[-1]["event_id"] if more else newest, more
