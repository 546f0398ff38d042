"""Progress of jobs and their knobs, over HTTP."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from leptond import schema
from leptond.api.http.context import Context
from leptond.api.http.routing import Call, Table
from leptond.api.routes.jobs import one_job, ref_of
from leptond.api.views import bodies
from leptond.attempt_files import knobs
from leptond.base.errors import StorageFull
from leptond.core.access.policies import Policy
from leptond.core.access.rights import Sight
from leptond.core.jobs.model import LIVE, Attempt, Job
from leptond.services import access
from leptond.store import Connection
from leptond.store.database import events
from leptond.store.training import progress

table = Table("progress")

MARKS = ("job.tune", "job.tuned")
MAX_MARKS = 1000
START_S = 5.0
"""Seconds to wait for the directory of a job that is being started."""

_tuning = asyncio.Lock()


@table.route("GET", "/v1/jobs/{ref}/metrics", Policy.LOOK, answer=schema.MetricCurve, errors=(404,))
async def metrics(call: Call) -> schema.MetricCurve:
    """The curve of a job: step, loss, rate and what else it reports, over all its attempts."""
    ref, rights = ref_of(call), call.rights

    def fetch(db: Connection) -> schema.MetricCurve:
        job = access.seen_job(db, rights, ref, Sight.ALL)
        marks = events.after(db, 0, limit=MAX_MARKS, job=job.id, kinds=MARKS)
        recorded = events.after(db, 0, limit=MAX_MARKS, job=job.id, kinds=("job.progress",))
        return bodies.curve(job.id, progress.curve(db, job.id), [*marks, *checkpoints(recorded)])

    return await call.context.store.look(fetch)


def checkpoints(recorded: list[events.Event]) -> list[events.Event]:
    """Return one event for each checkpoint seen in the events of a job's progress, which are thinned with
    age."""
    found, last = [], None
    for one in recorded:
        step = one.data.get("checkpoint_step")
        if step is not None and (one.attempt, step) != last:
            last = (one.attempt, step)
            found.append(replace(one, type="job.checkpoint", data={"step": step}))
    return found


@table.route(
    "POST", "/v1/jobs/{ref}/tune", Policy.CHANGE, body=schema.Tune, answer=schema.Job, errors=(404, 409, 507)
)
async def tune(call: Call) -> schema.Job:
    """Set knobs that a job has declared, such as its learning rate, at its next step; retries keep them."""
    ref, caller, now = ref_of(call), call.caller, call.context.clock.wall()
    values: dict[str, float] = call.body.values
    rights = call.rights

    def change(db: Connection) -> tuple[Job, Attempt]:
        access.own_job(db, rights, ref)
        return progress.tune(db, ref, values, by=caller.user, now=now)

    # one at a time: an older file must not follow a newer one
    async with _tuning:
        job, attempt = await call.context.store.write(change)
        if job.state in LIVE:
            await _deliver(call.context, job, attempt)
    return await one_job(call.context, ref, call.rights)


async def _deliver(context: Context, job: Job, attempt: Attempt) -> None:
    directory = context.jobs_dir / str(job.id) / str(attempt.number)
    until = context.clock.boot() + START_S
    try:
        while not knobs.leave(directory, job) and context.clock.boot() < until:
            await asyncio.sleep(0.02)  # claimed, and its directory is being made
    except OSError as error:
        raise StorageFull(
            f"it is stored, and counts for the next attempt, but this one could not be recorded: {error}",
            hint="make room on the disk, then tune it again",
        ) from None
