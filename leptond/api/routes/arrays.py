"""Whole arrays over HTTP: one request for all members, however many those are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from leptond import schema
from leptond.api.http.routing import Call, Table
from leptond.api.routes.job_sets import Change, all_of
from leptond.api.routes.jobs import GetQuery, check_patch, patch_of, wait_until
from leptond.base.errors import NotFound
from leptond.core.access.policies import Policy
from leptond.services import access
from leptond.store import Connection
from leptond.store.queue import arrays, jobs, lists, sets
from leptond.store.queue.sets import Wanted

table = Table("arrays")


def id_of(call: Call, what: str = "array") -> int:
    """The number in the path. Raises NotFound for what cannot be one."""
    text = call.path("id")
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise NotFound(f"there is no {what} {text[:40]!r}", hint=f"a {what} is named by its number, as in 47")
    return int(text)


def _shown(one: arrays.Array) -> schema.Array:
    return schema.Array(
        id=one.id,
        name=one.name,
        user=one.user,
        counts=one.counts,
        held=one.held,
        never_start=one.never_start,
        first_failed=one.first_failed,
    )


@table.route(
    "GET", "/v1/arrays/{id}", Policy.LOOK, query=GetQuery, answer=schema.Array, errors=(404,), streams=True
)
async def get_array(call: Call) -> schema.Array:
    """An array: how many of its members are in which state; with wait_s, when all have ended."""
    array_id = id_of(call)
    await call.context.store.look(access.must_see_array, call.rights, array_id)
    await wait_for_end(call, array_id)
    return _shown(await call.context.store.survey(arrays.find, array_id))


async def wait_for_end(call: Call, array_id: int) -> None:
    """Returns when all members have ended, when the time of the query (GetQuery) is over, or when the daemon
    stops."""
    context = call.context
    until = context.clock.boot() + call.query.wait_s
    while call.query.wait_s:
        ended = context.ends.next(("array", array_id))
        over = await context.store.look(arrays.is_over, array_id)
        if over or not await wait_until(call, ended, until):
            ended.cancel()
            break


async def _all(
    call: Call,
    compact: Callable[[Connection, int], int],
    verb: Any,
    *,
    newest_first: bool = False,
    **how: Any,
) -> schema.ArrayChanged:
    """Change the compact members, then slice by slice those that have rows."""
    array_id, rights, store = id_of(call), call.rights, call.context.store

    def first(db: Connection) -> int:
        access.must_own_array(db, rights, array_id, operators=True)
        return compact(db, array_id)

    changed = await store.write(first)
    at = 2**53 if newest_first else -1
    while members := await store.survey(arrays.unended, array_id, at, newest_first=newest_first):
        changed += await store.write(arrays.each, members, verb, now=call.context.clock.wall(), **how)
        at = members[-1][0]
    now = _shown(await store.survey(arrays.find, array_id))
    return schema.ArrayChanged(array=now, changed=changed)


@table.route(
    "POST",
    "/v1/arrays/{id}/cancel",
    Policy.CHANGE,
    body=schema.Cancel,
    body_optional=True,
    answer=schema.ArrayChanged,
    status=202,
    errors=(404,),
    streams=True,
)
async def cancel_array(call: Call) -> schema.ArrayChanged:
    """Cancel all members that have not ended; those that wait come first."""
    return await cancel_all(call)


async def cancel_all(call: Call) -> schema.ArrayChanged:
    """Cancels the members of the array in the path, as the body (Cancel) says."""
    by, body, now = call.caller.user, call.body, call.context.clock.wall()
    return await _together(
        call, partial(sets.cancel, by=by, grace_s=body.grace_s, reason=body.reason, now=now)
    )


async def _together(call: Call, change: Change) -> schema.ArrayChanged:
    """Change all members as one set."""
    array_id, rights, store = id_of(call), call.rights, call.context.store
    await store.survey(partial(access.must_own_array, operators=True), rights, array_id)
    done = await all_of(call, change, Wanted(filter=lists.Filter(array_id=array_id)))
    now = _shown(await store.survey(arrays.find, array_id))
    return schema.ArrayChanged(array=now, changed=done.pending + done.live)


@table.route(
    "POST", "/v1/arrays/{id}/hold", Policy.CHANGE, answer=schema.ArrayChanged, errors=(404,), streams=True
)
async def hold_array(call: Call) -> schema.ArrayChanged:
    """Keep all members that wait from starting."""
    return await _together(call, partial(sets.hold, by=call.caller.user, now=call.context.clock.wall()))


@table.route(
    "POST", "/v1/arrays/{id}/release", Policy.CHANGE, answer=schema.ArrayChanged, errors=(404,), streams=True
)
async def release_array(call: Call) -> schema.ArrayChanged:
    """Let all held members start."""
    return await _together(call, partial(sets.release, by=call.caller.user, now=call.context.clock.wall()))


@table.route(
    "PATCH",
    "/v1/arrays/{id}",
    Policy.CHANGE,
    body=schema.JobPatch,
    answer=schema.ArrayChanged,
    errors=(404,),
    streams=True,
)
async def edit_array(call: Call) -> schema.ArrayChanged:
    """Change all members that have not ended; what may change only while a job waits, of those that wait."""
    changes = patch_of(call.body)
    await check_patch(call, changes)
    array_id = id_of(call)
    owner = await call.context.store.look(access.owner_of_array, call.rights, array_id)
    call.rights.must_edit(owner, f"{array_id}_*", changes)
    by, admin, now = call.caller.user, call.caller.admin, call.context.clock.wall()
    return await _all(
        call,
        lambda db, array_id: arrays.edit_compact(db, array_id, changes, by=by, by_admin=admin, now=now),
        jobs.edit,
        changes=changes,
        by=by,
        if_version=None,
        by_admin=admin,
    )
