"""The past over HTTP: which attempt had which GPU when, and what the devices did."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from leptond import schema
from leptond.api.http.routing import Call, Table
from leptond.api.routes.jobs import ref_of
from leptond.api.views import bodies, outline
from leptond.base.errors import Invalid
from leptond.core.access.policies import Policy
from leptond.services import access
from leptond.services.gpu_history import BUCKET_S, KEPT_BUCKETS
from leptond.store import Connection
from leptond.store.accounting import ledger, timeline
from leptond.store.queue import gpus, lists

table = Table("timeline")

DEFAULT_S = 6 * 3600.0
LONGEST_S = 90 * 86400.0


class TimelineQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Six hours up to now, if not given."""

    since: Annotated[datetime, Meta(tz=True)] | None = None
    until: Annotated[datetime, Meta(tz=True)] | None = None
    limit: Annotated[int, Meta(ge=1, le=5000)] = 2000


@table.route("GET", "/v1/timeline", Policy.LOOK, query=TimelineQuery, answer=schema.Timeline)
async def show(call: Call) -> schema.Timeline:
    """List which attempt had which GPU between two instants."""
    query: TimelineQuery = call.query
    now = call.context.clock.wall()
    until = query.until.timestamp() if query.until is not None else now
    since = query.since.timestamp() if query.since is not None else until - DEFAULT_S
    if not 0 < until - since <= LONGEST_S:
        raise Invalid("the span must be between 0 s and 90 days", pointer="/since")

    def fetch(db: Connection) -> schema.Timeline:
        lanes, more = timeline.between(db, since, until, query.limit)
        return schema.Timeline(
            since=bodies.instant(since),
            until=bodies.instant(until),
            items=[outline.bar(bodies.bar(one), one, call.rights) for one in lanes],
            more=more,
        )

    return await call.context.store.survey(fetch)


@table.route("GET", "/v1/jobs/{ref}/gpus", Policy.LOOK, answer=list[schema.GpuUse], errors=(404,))
async def job_gpus(call: Call) -> list[schema.GpuUse]:
    """Return the use of a job's GPUs, attempt by attempt: load, memory, energy, and minutes."""
    ref, rights = ref_of(call), call.rights
    kept = call.context.gpu_view.history

    def fetch(db: Connection) -> list[schema.GpuUse]:
        job = access.seen_job(db, rights, ref)
        found = []
        for attempt in lists.attempts_of(db, [job.id]).get(job.id, ()):
            sampled = {use.gpu: use for use in ledger.uses(db, attempt.id)}
            end = attempt.ended_at if attempt.ended_at is not None else call.context.clock.wall()
            for gpu in attempt.gpus:
                minutes = [one for one in kept.since(gpu.uuid, attempt.claimed_at) if one.at < end]
                found.append(bodies.gpu_use(attempt.number, gpu, sampled.get(gpu.uuid), minutes))
        return found

    return await call.context.store.survey(fetch)


class HistoryQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The last hour, if not given."""

    since: Annotated[datetime, Meta(tz=True)] | None = None


@table.route("GET", "/v1/gpus/history", Policy.LOOK, query=HistoryQuery, answer=schema.GpuHistoryList)
async def history(call: Call) -> schema.GpuHistoryList:
    """Utilisation, memory, power and temperature of the devices, by minute."""
    query: HistoryQuery = call.query
    now = call.context.clock.wall()
    since = query.since.timestamp() if query.since is not None else now - 3600.0
    since = max(since, now - KEPT_BUCKETS * BUCKET_S)
    kept = call.context.gpu_view.history

    def fetch(db: Connection) -> schema.GpuHistoryList:
        return schema.GpuHistoryList(
            items=[
                schema.GpuSeries(
                    index=gpu.index,
                    uuid=gpu.uuid,
                    minutes=[bodies.minute(bucket) for bucket in kept.since(gpu.uuid, since)],
                )
                for gpu in gpus.known(db, present_only=True)
            ]
        )

    return await call.context.store.survey(fetch)
