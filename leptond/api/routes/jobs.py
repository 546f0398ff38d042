"""Jobs over HTTP."""

from __future__ import annotations

import asyncio
import os
import re
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web
from msgspec import Meta

from leptond import schema
from leptond.api.http.context import Context
from leptond.api.http.routing import Call, Reply, Table
from leptond.api.views import bodies, outline
from leptond.api.views.explain import Explain
from leptond.base.errors import BadRequest, Invalid, NotFound, TooManyGpus
from leptond.core.access import run_as
from leptond.core.access.policies import Policy
from leptond.core.access.rights import Rights, Sight
from leptond.core.access.roles import Role
from leptond.core.access.visible import Visible
from leptond.core.jobs import sources
from leptond.core.jobs.fields import FILTERS
from leptond.core.jobs.instants import epoch
from leptond.core.jobs.model import TERMINAL, Job, State
from leptond.core.jobs.timespec import format_duration
from leptond.services import access
from leptond.store import Connection
from leptond.store.database.rows import text_or
from leptond.store.queue import dependencies, gpus, jobs, lists, scripts
from leptond.store.queue.submit import Stored

table = Table("jobs")

REF = re.compile(r"^[0-9]{1,18}(_[0-9]{1,9})?\Z")


def _text(longest: int) -> Any:
    return Annotated[str, Meta(max_length=longest)] | None


ListQuery = msgspec.defstruct(
    "ListQuery",
    [
        ("state", _text(256), None),
        *((field.name, _text(field.longest), None) for field in FILTERS),
        ("array", Annotated[int, Meta(ge=1, le=2**53)] | None, None),
        ("label", _text(512), None),
        ("since", datetime | None, None),
        ("order", Literal["newest", "queue"], "newest"),
        ("whole", bool, False),
        ("limit", Annotated[int, Meta(ge=1, le=1000)], 50),
        ("cursor", _text(128), None),
    ],
    module=__name__,
    kw_only=True,
    forbid_unknown_fields=True,
)
"""`state` takes several, separated by commas. `order` queue lists what is alive and what waits, in the order
in which it would start; `whole` then has one job for each array, with its `members`, unless the list is
narrowed by more than user and state."""


class GetQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`wait_s`: answer when the job has ended, or after so many seconds as it then is."""

    wait_s: Annotated[float, Meta(ge=0, le=60)] = 0.0


def ref_of(call: Call) -> str:
    """The job that the path names. Raises NotFound for what cannot be one."""
    ref = call.path("ref")
    if not REF.match(ref):
        raise NotFound(f"there is no job {ref[:40]!r}", hint="a job is named 47, or 47_3 in an array")
    return ref


async def one_job(context: Context, ref: str, rights: Rights, least: Sight = Sight.DETAILS) -> schema.Job:
    """A job with its attempts and dependencies. Raises NotFound, Forbidden for what is not for the caller."""
    sick = context.gpu_view.unhealthy()

    def fetch(db: Connection, *, forecasts: bool = True) -> schema.Job | None:
        job = access.seen_job(db, rights, ref, least)
        if job.state is State.PENDING and not forecasts:
            return None
        attempts = lists.attempts_of(db, [job.id])[job.id]
        explain = Explain(db, context, sick, rights)
        shown = explain.show(job, attempts)
        shown.attempts = [bodies.attempt(each, boot=explain.boot) for each in attempts]
        if rights.sight(job.user, job.project) is Sight.ALL:
            shown.resubmit = bodies.resubmit(shown)
            shown.sources = [bodies.source(each) for each in text_or(sources.decode, job.sources, [])]
        else:
            shown.attempts = [outline.attempt(each) for each in shown.attempts]
        shown.dependencies = [bodies.dependency(each) for each in dependencies.of(db, job.id, job.array_id)]
        return shown

    # a forecast takes longer than the scheduler, which reads by the same connection, is to wait
    found = await context.store.look(fetch, forecasts=False) or await context.store.survey(fetch)
    assert found is not None
    return found


def tagged(job: schema.Job) -> Reply:
    """A job with its version as ETag."""
    return Reply(job, headers={"ETag": f'"{job.version}"'})


@table.route("GET", "/v1/jobs", Policy.LOOK, query=ListQuery, answer=schema.JobPage)
async def list_jobs(call: Call) -> schema.JobPage:
    """List jobs, a page at a time."""
    query: Any = call.query
    wanted = filter_of(query, call.rights)
    # members of one array may differ in what the other filters look at
    alike = wanted.equal.keys() <= {"user"} and not (wanted.array_id or wanted.label or wanted.since)
    whole = query.whole and alike
    listing = (
        partial(lists.in_queue_order, whole=whole, is_hidden=partial(_is_hidden, call.rights))
        if query.order == "queue"
        else lists.newest
    )
    sick = call.context.gpu_view.unhealthy()

    def fetch(db: Connection) -> schema.JobPage:
        found, cursor = listing(db, wanted, limit=query.limit, cursor=query.cursor)
        attempts = lists.attempts_of(db, [job.id for job in found])
        explain = Explain(db, call.context, sick, call.rights)
        shown = [explain.show(job, attempts[job.id]) for job in found]
        if whole and query.order == "queue":
            explain.add_members(shown)
        return schema.JobPage(items=shown, next_cursor=cursor)

    return await call.context.store.survey(fetch)


def _is_hidden(rights: Rights, job: Job) -> bool:
    return rights.sight(job.user, job.project) is Sight.OUTLINE


OUTLINE_FILTERS = frozenset({"user"})
DETAIL_FILTERS = frozenset({"user", "name", "project"})


def _visible(query: Any, rights: Rights) -> Visible | None:
    """The jobs among which a filter may search: by what is not shown of a job it is not found either."""
    used = {field.name for field in FILTERS if getattr(query, field.name) is not None}
    if query.label is not None or getattr(query, "never", False):
        used.add("label")
    open_to = DETAIL_FILTERS if rights.caller.role.covers(Role.OPERATOR) else OUTLINE_FILTERS
    return None if rights.sees_everything or used <= open_to else rights.visible


def filter_of(query: Any, rights: Rights) -> lists.Filter:
    """The filter that a query, or the body of a set, asks for. Raises Invalid."""
    states = []
    for word in dict.fromkeys(query.state.split(",")) if query.state else []:
        try:
            states.append(State(word))
        except ValueError:
            raise Invalid(
                f"there is no state {word[:40]!r}; there are {', '.join(State)}", pointer="/state"
            ) from None
    label = None
    if query.label is not None:
        name, mark, value = query.label.partition("=")
        if not mark:
            raise Invalid("a label is asked for as name=value", pointer="/label")
        label = (name, value)
    since = getattr(query, "since", None)
    return lists.Filter(
        states=states,
        equal={field.name: value for field in FILTERS if (value := getattr(query, field.name)) is not None},
        array_id=query.array,
        label=label,
        since=since.timestamp() if since is not None else None,
        visible=_visible(query, rights),
    )


@table.route(
    "GET", "/v1/jobs/{ref}", Policy.LOOK, query=GetQuery, answer=schema.Job, errors=(404,), streams=True
)
async def get(call: Call) -> Reply:
    """One job with its attempts; with wait_s, when it has ended."""
    ref = ref_of(call)
    if call.query.wait_s > 0:
        await _wait_for_end(call, ref)
    return tagged(await one_job(call.context, ref, call.rights))


async def _wait_for_end(call: Call, ref: str) -> None:
    """Returns when the job has ended, when its time is over, or when the daemon stops."""
    context = call.context
    until = context.clock.boot() + call.query.wait_s
    job = await context.store.look(access.seen_job, call.rights, ref)
    while True:
        ended = context.ends.next(("job", job.id))
        job = await context.store.look(jobs.find, ref)
        if job.state in TERMINAL or not await wait_until(call, ended, until):
            ended.cancel()
            return


LEFT_S = 5.0
"""Seconds after which a wait looks whether its client is still there."""


async def wait_until(call: Call, future: asyncio.Future[None], until: float) -> bool:
    """Return True when `future` is done; False at `until` (of CLOCK_BOOTTIME), or when the daemon stops."""
    context = call.context
    while not context.closing.is_set() and (left := until - context.clock.boot()) > 0:
        done, _ = await asyncio.wait((future,), timeout=min(left, LEFT_S))
        if done:
            return not context.closing.is_set()
        if call.request.transport is None:
            raise asyncio.CancelledError
    return False


@table.route(
    "PATCH",
    "/v1/jobs/{ref}",
    Policy.CHANGE,
    headers={"If-Match": "the ETag that the job had when it was read"},
    body=schema.JobPatch,
    answer=schema.Job,
    errors=(404, 409),
)
async def edit(call: Call) -> Reply:
    """Change a job. If-Match with the version guards against a change in between."""
    changes = patch_of(call.body)
    version = None
    match = call.request.headers.get("If-Match", "*").strip()
    if match != "*":
        if not re.fullmatch(r'"[0-9]{1,15}"', match):
            raise BadRequest('If-Match must be the ETag of the job, such as "3"')
        version = int(match.strip('"'))
    await check_patch(call, changes)
    ref = ref_of(call)
    caller, rights, now = call.caller, call.rights, call.context.clock.wall()

    def change(db: Connection) -> None:
        job = access.own_job(db, rights, ref, operators=True)
        rights.must_edit(job.user, ref, changes)
        jobs.edit(db, ref, changes, by=caller.user, if_version=version, now=now, by_admin=caller.admin)

    await call.context.store.write(change)
    return tagged(await one_job(call.context, ref, call.rights))


def patch_of(body: msgspec.Struct) -> dict[str, Any]:
    """The fields that a patch (schema.JobPatch) sets, times as seconds. Raises Invalid."""
    found: dict[str, Any] = {}
    for name in body.__struct_fields__:
        value = getattr(body, name)
        if isinstance(value, datetime):
            try:
                value = epoch(value)
            except ValueError as error:
                raise Invalid(f"{name}: {error}", pointer=f"/{name}") from None
        if value is not msgspec.UNSET:
            found[name] = value
    return found


async def check_patch(call: Call, changes: dict[str, Any]) -> None:
    """Raises what this machine has to say against changes, whatever the job."""
    known = await call.context.store.look(gpus.known, present_only=True)
    if changes.get("gpus", 0) > len(known):
        raise TooManyGpus(changes["gpus"], len(known))
    longest = call.context.settings.jobs.max_time_limit_s
    if longest and "time_limit_s" in changes and (changes["time_limit_s"] or float("inf")) > longest:
        raise Invalid(
            f"the time limit is over this machine's {format_duration(longest)}", pointer="/time_limit_s"
        )


@table.route(
    "POST",
    "/v1/jobs/{ref}/cancel",
    Policy.CHANGE,
    body=schema.Cancel,
    body_optional=True,
    answer=schema.Job,
    status=202,
    errors=(404, 409),
)
async def cancel(call: Call) -> schema.Job:
    """Cancel a job: at once while it waits, else by its stop signal, its grace and a kill."""
    ref, caller, body, now = ref_of(call), call.caller, call.body, call.context.clock.wall()
    rights = call.rights

    def change(db: Connection) -> None:
        access.own_job(db, rights, ref, operators=True)
        jobs.cancel(db, ref, by=caller.user, grace_s=body.grace_s, reason=body.reason, now=now)

    await call.context.store.write(change)
    return await one_job(call.context, ref, call.rights)


@table.route("POST", "/v1/jobs/{ref}/hold", Policy.CHANGE, answer=schema.Job, errors=(404, 409))
async def hold(call: Call) -> schema.Job:
    """Keep a pending job from starting."""
    return await _simple(call, jobs.hold)


@table.route("POST", "/v1/jobs/{ref}/release", Policy.CHANGE, answer=schema.Job, errors=(404, 409))
async def release(call: Call) -> schema.Job:
    """Let a held job start."""
    return await _simple(call, jobs.release)


async def _simple(call: Call, verb: Any) -> schema.Job:
    ref, caller, now = ref_of(call), call.caller, call.context.clock.wall()
    rights = call.rights

    def change(db: Connection) -> Job:
        access.own_job(db, rights, ref, operators=True)
        changed: Job = verb(db, ref, by=caller.user, now=now)
        return changed

    await call.context.store.write(change)
    return await one_job(call.context, ref, call.rights)


@table.route(
    "POST",
    "/v1/jobs/{ref}/retry",
    Policy.SUBMIT,
    body=schema.JobPatch,
    body_optional=True,
    answer=schema.Submitted,
    status=201,
    also=(200,),
    errors=(404, 409, 507),
)
async def retry(call: Call) -> Reply:
    """Run a job again: a finished one as a copy, one in back-off without waiting longer; with what the body
    says changed."""
    changes = patch_of(call.body)
    await check_patch(call, changes)
    ref, caller, now = ref_of(call), call.caller, call.context.clock.wall()
    accounts, daemon_uid = call.context.settings.accounts, os.geteuid()
    if not accounts.multi_user:
        run_as.must_run(accounts, uid=caller.uid, name=caller.user, daemon_uid=daemon_uid)
    if call.context.disk_guard is not None:
        call.context.disk_guard.check_accepts_jobs()
    settings = call.context.settings
    max_pending, caps, rights = settings.queue.max_pending, settings.shares.limits(), call.rights

    def change(db: Connection) -> tuple[Stored, bool]:
        job = access.own_job(db, rights, ref)
        if accounts.multi_user:  # it runs as its owner, whoever asks for it
            uid = job.uid if job.uid is not None or job.user != caller.user else caller.uid
            run_as.must_run(accounts, uid=uid, name=job.user, daemon_uid=daemon_uid)
        again = jobs.retry(
            db, ref, user=caller.user, uid=caller.uid, now=now, max_pending=max_pending, caps=caps
        )
        # in the same transaction: a change that is refused undoes the copy
        jobs.edit(
            db, str(again[0].id), changes, by=caller.user, if_version=None, now=now, by_admin=caller.admin
        )
        return again

    stored, copied = await call.context.store.write(change)
    job = await call.context.store.look(jobs.find, str(stored.id))
    warnings = await call.context.file_look.script_warnings(job) if copied else []
    answer = schema.Submitted(
        id=stored.id,
        ids=list(stored.ids),
        array_id=None,
        name=stored.name,
        state=State.PENDING,
        warnings=warnings,
    )
    return Reply(answer, status=201 if copied else 200, headers={"Location": f"/v1/jobs/{answer.id}"})


@table.route("DELETE", "/v1/jobs/{ref}", Policy.CHANGE, status=204, errors=(404, 409))
async def purge(call: Call) -> None:
    """Forget a finished job, its attempts and their output. Its checkpoints stay."""
    ref, caller, rights = ref_of(call), call.caller, call.rights

    def fetch(db: Connection) -> int:
        job = access.own_job(db, rights, ref)
        jobs.must_be_forgettable(db, job)
        return job.id

    job_id = await call.context.store.look(fetch)
    gone, _ = await call.context.retention.forget([job_id], checkpoints=False, by=caller.user)
    if not gone:
        await call.context.store.look(fetch)  # it has come to be needed meanwhile: says why


@table.route("GET", "/v1/jobs/{ref}/script", Policy.LOOK, answer=str, media="text/plain", errors=(403, 404))
async def script(call: Call) -> web.Response:
    """The script that a job runs, as it was at the submit. For its owner."""
    ref, rights = ref_of(call), call.rights

    def fetch(db: Connection) -> bytes:
        job = access.own_job(db, rights, ref)
        found = scripts.content(db, job.script_sha256) if job.script_sha256 is not None else None
        if found is None:
            raise NotFound(
                f"job {job.ref} runs no copy of a script",
                hint="a copy is made of a shell script that is submitted itself: leptonctl submit job.sh",
            )
        return found

    content = await call.context.store.look(fetch)
    return web.Response(body=content, content_type="text/plain", charset="utf-8")


@table.route("GET", "/v1/jobs/{ref}/attempts", Policy.LOOK, answer=list[schema.Attempt], errors=(404,))
async def attempts(call: Call) -> list[schema.Attempt]:
    """The attempts of a job, oldest first."""
    job = await one_job(call.context, ref_of(call), call.rights)
    return job.attempts if isinstance(job.attempts, list) else []


@table.route("GET", "/v1/jobs/{ref}/why", Policy.LOOK, answer=schema.Why, errors=(404,))
async def why(call: Call) -> schema.Why:
    """Explain why a job waits, or how it ended, and what would change that."""
    ref, rights = ref_of(call), call.rights
    context, sick = call.context, call.context.gpu_view.unhealthy()

    def fetch(db: Connection) -> schema.Why:
        job = access.seen_job(db, rights, ref)
        explain = Explain(db, context, sick, rights)
        wait = explain.wait(job)
        waits_for = dependencies.of(db, job.id, job.array_id)
        eta = explain.eta(job)
        answer = bodies.why(job, wait, waits_for, explain.refs(wait), eta, explain.turn(job, wait))
        if eta is None:
            answer.starts_unknown = explain.unforeseen(job, wait)
        return answer

    return await context.store.survey(fetch)
