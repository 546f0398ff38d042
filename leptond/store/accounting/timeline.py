"""The attempts of a span of time with their GPUs, for the timeline."""

from __future__ import annotations

import sqlite3

import msgspec

from leptond.core.jobs.model import LeasedGpu
from leptond.store.database import rows
from leptond.store.database.conditions import ATTEMPT_ENDED, ATTEMPT_LIVES, IS_LIVE


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt as a bar. `ended_at` is None while it lives; `state` is the attempt's, `cause` its class.
    Times are UTC seconds."""

    job_id: int
    ref: str
    name: str
    user: str
    project: str | None
    number: int
    state: str
    cause: str | None
    exit_code: int | None
    gpus: list[LeasedGpu]
    claimed_at: float
    ended_at: float | None


_COLUMNS = (
    "attempts.job_id, attempts.number, attempts.state, attempts.class, attempts.exit_code, attempts.gpus,"
    " attempts.claimed_at, attempts.ended_at, jobs.name, jobs.user, jobs.project, jobs.array_id,"
    " jobs.array_index"
)


def between(db: sqlite3.Connection, since: float, until: float, limit: int) -> tuple[list[Lane], bool]:
    """Attempts that held GPUs between `since` and `until`, newest end first, live ones before all; and
    whether there were more than `limit` (indexes jobs_live, attempts_by_end)."""
    found = db.execute(
        f"SELECT {_COLUMNS} FROM jobs INDEXED BY jobs_live JOIN attempts ON attempts.job_id = jobs.id"
        f" WHERE jobs.{IS_LIVE} AND attempts.{ATTEMPT_LIVES}"
        " AND attempts.n_gpus > 0 AND attempts.claimed_at < ?",
        (until,),
    ).fetchall()
    found += db.execute(
        f"SELECT {_COLUMNS} FROM attempts INDEXED BY attempts_by_end JOIN jobs ON jobs.id = attempts.job_id"
        " WHERE attempts.ended_at > ? AND attempts.n_gpus > 0 AND attempts.claimed_at < ?"
        f" AND attempts.{ATTEMPT_ENDED} ORDER BY attempts.ended_at DESC LIMIT ?",
        (since, until, limit + 1),
    ).fetchall()
    lanes = [
        Lane(
            job_id=row["job_id"],
            ref=str(row["job_id"]) if row["array_id"] is None else f"{row['array_id']}_{row['array_index']}",
            name=row["name"],
            user=row["user"],
            project=row["project"],
            number=row["number"],
            state=row["state"],
            cause=row["class"],
            exit_code=row["exit_code"],
            gpus=rows.shown_gpus(row["gpus"]),
            claimed_at=row["claimed_at"],
            ended_at=row["ended_at"],
        )
        for row in found[:limit]
    ]
    return lanes, len(found) > limit
