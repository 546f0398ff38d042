"""A cache of the pending jobs that every scheduling pass reads: those that are prepared, and those that are
likely to start next."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from leptond.core.jobs.model import Job
from leptond.store.database import rows
from leptond.store.database.conditions import IS_PENDING


def pending_rows(db: sqlite3.Connection, ids: Iterable[int]) -> Iterator[sqlite3.Row]:
    """Yield the rows of those of these jobs that wait."""
    for job_id in ids:
        row = db.execute(
            f"SELECT * FROM jobs WHERE id = ? AND {IS_PENDING} AND held = 0", (job_id,)
        ).fetchone()
        if row is not None:
            yield row


class JobCache:
    """Jobs as they were read last: a row that is still the same is not decoded again. Rows that cannot be
    read are left out: their claim sets them aside. For one connection at a time."""

    def __init__(self) -> None:
        self._jobs: dict[int, tuple[tuple[Any, ...], Job]] = {}

    def pending(self, db: sqlite3.Connection, ids: Iterable[int]) -> dict[int, Job]:
        """Return those of these jobs that wait, as they are now, by id. All others are forgotten."""
        found: dict[int, tuple[tuple[Any, ...], Job]] = {}
        for row in pending_rows(db, ids):
            values = tuple(row)
            before = self._jobs.get(row["id"])
            if before is None or before[0] != values:
                job = rows.readable_job(row)
                if job is None:
                    continue
                before = values, job
            found[row["id"]] = before
        self._jobs = found
        return {job_id: job for job_id, (_, job) in found.items()}
