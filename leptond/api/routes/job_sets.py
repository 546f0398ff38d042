"""Sets of jobs over HTTP: one request, and one transaction, for all of somebody, of a name or of a list."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from leptond import schema
from leptond.api.http.routing import Call, Table
from leptond.api.routes.jobs import filter_of
from leptond.base.errors import Forbidden, Invalid, NotFound, Refused
from leptond.core.access.policies import Policy
from leptond.core.access.rights import Rights
from leptond.core.access.roles import Role
from leptond.core.jobs.fields import FILTERS
from leptond.core.jobs.model import LIVE, TERMINAL, State
from leptond.services import access
from leptond.store import Connection
from leptond.store.queue import arrays, jobs, lists, sets
from leptond.store.queue.sets import Changed, Wanted

table = Table("jobs")

NAMES = 10
"""How many of the jobs that came in meanwhile are named."""

PURGED_AT_ONCE = 100
"""Finished jobs that are forgotten in one transaction."""

Change = Callable[[Connection, Wanted], Changed]
One = Callable[[Connection, str], Any]


def wanted_by(call: Call, *, operators: bool) -> Wanted:
    """The set that a body (JobSet) with filters describes: of the caller's own jobs, or, for administrators
    and, with `operators`, for those, of all. Raises Invalid for one that names nothing."""
    body, least = call.body, Role.OPERATOR if operators else Role.ADMIN
    narrowed = [getattr(body, field.name) for field in FILTERS]
    narrowed += [body.state, body.label, body.array, body.never or None]
    if body.jobs and (body.all or any(one is not None for one in narrowed)):
        raise Invalid("jobs are named, or chosen by filters, not both", pointer="/jobs")
    if not body.jobs and not body.all and all(one is None for one in narrowed):
        raise Invalid("name jobs, give a filter, or say all", pointer="/all")
    found = msgspec.structs.replace(filter_of(body, call.rights), never=body.never or None)
    return Wanted(filter=found, owner=None if call.caller.role.covers(least) else call.caller.user)


async def change_set(call: Call, change: Change, one: One, states: frozenset[State]) -> schema.SetChanged:
    """Change a set: its members with `change`, or, when jobs are named, each with `one`. `states`: those of
    the jobs that it is for."""
    wanted = wanted_by(call, operators=True)
    if call.body.jobs:
        return await _named(call, change, one)
    store = call.context.store
    if call.body.dry_run:
        pending = await store.survey(sets.count, wanted, states & {State.PENDING})
        live = await store.survey(sets.count, wanted, states & LIVE)
        return schema.SetChanged(dry_run=True, pending=pending, live=live)
    done = await all_of(call, change, wanted)
    # behind all that was on its way when the change was made
    came, named = await store.write(sets.meanwhile, wanted, done.last_id, NAMES, wakes_scheduler=False)
    return schema.SetChanged(
        pending=done.pending, live=done.live, others=done.others, meanwhile=came, meanwhile_jobs=named
    )


async def all_of(call: Call, change: Change, wanted: Wanted) -> Changed:
    """Change a set in one transaction, or, a very large one, in several of a bounded size; nothing that came
    in after the first is part of it."""
    store = call.context.store
    done = await store.write(change, wanted)
    pending, first = done.pending, done
    while done.more:
        done = await store.write(change, msgspec.structs.replace(wanted, up_to=first.last_id))
        pending += done.pending
    return msgspec.structs.replace(done, pending=pending, last_id=first.last_id)


async def _named(call: Call, change: Change, one: One) -> schema.SetChanged:
    """Change jobs and whole arrays that are named, in one transaction; say why some cannot be."""
    rights, refs = call.rights, call.body.jobs
    if call.body.dry_run:
        raise Invalid("a dry run is for a set that is chosen by filters", pointer="/dry_run")

    def each(db: Connection, ref: str) -> Changed:
        if ref.endswith("_*"):
            array_id = int(ref[:-2])
            access.must_own_array(db, rights, array_id, operators=True)
            return change(db, Wanted(filter=lists.Filter(array_id=array_id)))
        job = access.own_job(db, rights, ref, operators=True)
        one(db, ref)
        pending = job.state is State.PENDING
        return Changed(pending=int(pending), live=int(not pending))

    def all_named(db: Connection) -> tuple[Changed, list[tuple[str, Refused]]]:
        return sets.each(db, refs, partial(each, db))

    done, refused = await call.context.store.write(all_named)
    return schema.SetChanged(
        pending=done.pending, live=done.live, refused=[_not_changed(ref, why) for ref, why in refused]
    )


def _not_changed(ref: str, why: Refused) -> schema.NotChanged:
    return schema.NotChanged(
        ref=ref, type=f"/problems/{why.slug}", status=why.status, detail=why.detail, hint=why.hint
    )


@table.route(
    "POST",
    "/v1/jobs:cancel",
    Policy.CHANGE,
    body=schema.CancelSet,
    answer=schema.SetChanged,
    status=202,
    streams=True,
)
async def cancel_set(call: Call) -> schema.SetChanged:
    """Cancel a set of jobs: all that wait at once, so that none of them can start in between."""
    body, by, now = call.body, call.caller.user, call.context.clock.wall()
    how: dict[str, Any] = {"by": by, "grace_s": body.grace_s, "reason": body.reason, "now": now}
    return await change_set(
        call, partial(sets.cancel, **how), partial(jobs.cancel, **how), frozenset({State.PENDING, *LIVE})
    )


@table.route(
    "POST", "/v1/jobs:hold", Policy.CHANGE, body=schema.JobSet, answer=schema.SetChanged, streams=True
)
async def hold_set(call: Call) -> schema.SetChanged:
    """Keep a set of pending jobs from starting."""
    how: dict[str, Any] = {"by": call.caller.user, "now": call.context.clock.wall()}
    return await change_set(
        call, partial(sets.hold, **how), partial(jobs.hold, **how), frozenset({State.PENDING})
    )


@table.route(
    "POST", "/v1/jobs:release", Policy.CHANGE, body=schema.JobSet, answer=schema.SetChanged, streams=True
)
async def release_set(call: Call) -> schema.SetChanged:
    """Let a set of held jobs start."""
    how: dict[str, Any] = {"by": call.caller.user, "now": call.context.clock.wall()}
    return await change_set(
        call, partial(sets.release, **how), partial(jobs.release, **how), frozenset({State.PENDING})
    )


@table.route(
    "POST", "/v1/jobs:purge", Policy.CHANGE, body=schema.PurgeSet, answer=schema.SetChanged, streams=True
)
async def purge_set(call: Call) -> schema.SetChanged:
    """Forget a set of finished jobs, their attempts and their output. What an unfinished job needs stays."""
    wanted, store = wanted_by(call, operators=False), call.context.store
    if call.body.jobs:
        return await _purge_named(call)
    if call.body.dry_run:
        count = await store.survey(sets.count, wanted, TERMINAL)
        return schema.SetChanged(dry_run=True, finished=count)
    retention, by = call.context.retention, call.caller.user
    below, gone = 2**53, 0
    while True:
        ids, spans = await store.survey(sets.finished, wanted, below, PURGED_AT_ONCE)
        if below == 2**53:
            gone += await retention.forget_compact(spans, by=by)
        if not ids:
            return schema.SetChanged(finished=gone)
        removed, _ = await retention.forget(ids, checkpoints=call.body.checkpoints, by=by)
        gone, below = gone + len(removed), ids[-1]


def _members(db: Connection, rights: Rights, ref: str) -> list[str]:
    array_id = int(ref[:-2])
    access.must_own_array(db, rights, array_id)
    return [str(member) for member in arrays.member_ids(db, array_id)]


async def _purge_named(call: Call) -> schema.SetChanged:
    caller, rights = call.caller, call.rights
    found: list[int] = []
    refused: list[schema.NotChanged] = []

    def look(db: Connection) -> None:
        for ref in call.body.jobs:
            try:
                members = _members(db, rights, ref) if ref.endswith("_*") else [ref]
                for job in map(partial(access.own_job, db, rights), members):
                    jobs.must_be_forgettable(db, job)
                    found.append(job.id)
            except (NotFound, Forbidden, Refused) as error:
                refused.append(_not_changed(ref, error))

    await call.context.store.survey(look)
    gone = 0
    for begin in range(0, len(found), PURGED_AT_ONCE):
        removed, _ = await call.context.retention.forget(
            found[begin : begin + PURGED_AT_ONCE], checkpoints=call.body.checkpoints, by=caller.user
        )
        gone += len(removed)
    return schema.SetChanged(finished=gone, refused=refused)
