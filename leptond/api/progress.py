"""What running jobs say about themselves, over HTTP."""

from __future__ import annotations

import sqlite3

from leptond.api import types, views
from leptond.api.jobs import ref_of
from leptond.api.routing import Call, Table
from leptond.store import events, jobs, progress

table = Table("progress")

MARKS = ("job.tune", "job.tuned")
MAX_MARKS = 1000


@table.route("GET", "/v1/jobs/{ref}/metrics", answer=types.MetricCurve, errors=(404,))
async def metrics(call: Call) -> types.MetricCurve:
    """The curve of a job: step, loss, rate and what else it reports, over all its attempts."""
    ref = ref_of(call)

    def look(db: sqlite3.Connection) -> types.MetricCurve:
        job = jobs.find(db, ref)
        marks = events.after(db, 0, limit=MAX_MARKS, job=job.id, kinds=MARKS)
        return views.curve(job.id, progress.curve(db, job.id), marks)

    return await call.context.store.read(look)
