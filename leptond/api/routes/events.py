"""The sequence of events over HTTP, as a stream or page by page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from leptond import schema
from leptond.api.http.routing import Call, Table
from leptond.api.http.sse import PING_S, last_event_id, open_stream
from leptond.api.views import bodies
from leptond.base.errors import BadRequest
from leptond.core.access.policies import Policy
from leptond.services import access
from leptond.store.database import events
from leptond.store.queue import lists

table = Table("events")
PAGE = 500


class EventQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`since`: only events with a higher id (for a stream without it: only new ones). `type` takes
    several, separated by commas."""

    since: Annotated[int, Meta(ge=0, le=2**53)] | None = None
    job: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    type: Annotated[str, Meta(max_length=512)] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


@table.route(
    "GET",
    "/v1/events",
    Policy.LOOK,
    headers={"Last-Event-ID": "resumes after this event"},
    query=EventQuery,
    answer=schema.EventPage,
    streams=True,
)
async def list_events(call: Call) -> schema.EventPage | web.StreamResponse:
    """List events in order: as server-sent events when asked for text/event-stream, else a page."""
    if "text/event-stream" in call.request.headers.get("Accept", ""):
        return await _follow(call)
    query: EventQuery = call.query
    found = await call.context.store.survey(
        events.after, query.since or 0, limit=query.limit, job=query.job, kinds=_kinds(query)
    )
    full, last = len(found) == query.limit, found[-1].id if found else 0
    shown = await seen(call, found)
    refs = await _refs(call, shown)
    return schema.EventPage(
        items=[bodies.event(one, refs) for one in shown], next_cursor=str(last) if full else None
    )


async def seen(call: Call, found: Sequence[events.Event]) -> Sequence[events.Event]:
    """Return those of these events that the caller may see, as it may see them."""
    if call.rights.sees_everything or not found:
        return found
    return await call.context.store.survey(access.seen_events, call.rights, found)


async def _refs(call: Call, found: Sequence[events.Event]) -> dict[int, str]:
    """What people call the jobs of events that are members of arrays."""
    ids = {one.job_id for one in found if one.job_id is not None}
    return await call.context.store.survey(lists.refs, ids) if ids else {}


def _kinds(query: EventQuery) -> list[str]:
    return query.type.split(",") if query.type else []


async def _follow(call: Call) -> web.StreamResponse:
    query: EventQuery = call.query
    context = call.context
    resume = last_event_id(call.request)
    if resume is not None and not re.fullmatch(r"[0-9]{1,15}", resume):
        raise BadRequest("Last-Event-ID must be the id of an event")
    if resume is not None:
        last = int(resume)
    elif query.since is not None:
        last = query.since
    else:
        last = await context.store.survey(events.last_id)
    stream = await open_stream(call.request)
    try:
        await stream.send("hello", {"last_event_id": last})
        while not context.closing.is_set():
            commit = context.commits.next()
            found = await context.event_tail.after(last, limit=PAGE, job=query.job, kinds=_kinds(query))
            shown = await seen(call, found)
            refs = await _refs(call, shown)
            for one in shown:
                await stream.send(one.type, bodies.event(one, refs), id=one.id)
            last = found[-1].id if found else last
            if found:
                commit.cancel()
            elif not await context.commits.wait(commit, PING_S):
                await stream.ping()
    except (ConnectionError, TimeoutError):
        pass  # the reader left, or does not read
    return stream.response
