"""Sweeps over HTTP: many configurations of one command, of which the less promising are stopped early."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from leptond import schema
from leptond.api.http import omitted
from leptond.api.http.routing import Call, Reply, Table
from leptond.api.routes import arrays
from leptond.api.routes.jobs import GetQuery
from leptond.api.routes.submits import KEY_HEADER, submit_all
from leptond.api.views import bodies
from leptond.base.errors import BadRequest, Invalid
from leptond.core.access.policies import Policy
from leptond.core.admission.admission import MAX_ARGV_BYTES
from leptond.core.jobs.model import JobSpec, Rungs
from leptond.core.training import sweeps as core
from leptond.services import access
from leptond.store import Connection
from leptond.store.queue import arrays as array_rows
from leptond.store.queue.submit import Together
from leptond.store.training import sweeps

table = Table("sweeps")


class SweepQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`cursor`: the `next_cursor` of the page before."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    cursor: Annotated[str, Meta(max_length=32)] | None = None


@table.route(
    "POST",
    "/v1/sweeps",
    Policy.SUBMIT,
    headers=KEY_HEADER,
    body=schema.NewSweep,
    answer=schema.SweepSubmitted,
    status=201,
    also=(200,),
    errors=(409, 507),
)
async def submit_sweep(call: Call) -> Reply:
    """Submit a sweep: all of its trials or none; the answer comes when they are on disk."""
    asked: schema.NewSweep = call.body
    params = _configurations(asked)
    plan = sweeps.Plan(
        metric=asked.metric,
        mode=asked.mode,
        halving=asked.halving,
        eta=asked.eta,
        min_step=asked.min_step,
        asked={"grid": asked.grid, "random": asked.random, "trials": len(params), "seed": asked.seed},
    )
    user, now = call.caller.user, call.context.clock.wall()
    try:
        stored, new = await submit_all(
            call,
            _trials(asked, params),
            unsaid=[omitted.gpus_of_sweep(call.raw)] * len(params),
            together=Together(limit=asked.concurrent),
            beside=lambda db, jobs: sweeps.begin(db, plan, params, jobs, user=user, now=now),
        )
    except Invalid as refusal:
        raise refusal.within("/job") from None
    answer = schema.SweepSubmitted(
        id=stored[0].id,
        ids=[one.id for one in stored],
        name=stored[0].name,
        trials=params,
        warnings=list(dict.fromkeys(word for one in stored for word in one.warnings)),
    )
    return Reply(answer, status=201 if new else 200, headers={"Location": f"/v1/sweeps/{answer.id}"})


def _configurations(asked: schema.NewSweep) -> list[core.Params]:
    if asked.job.array is not None:
        raise Invalid("a sweep is an array of its own", pointer="/job/array", hint="leave the array out")
    drawn = {}
    for name, text in asked.random.items():
        try:
            drawn[name] = core.parse_space(text)
        except ValueError as error:
            raise Invalid(str(error), pointer=f"/random/{name}") from None
    try:
        return core.trials(asked.grid, drawn, count=asked.trials, seed=asked.seed)
    except ValueError as error:
        raise Invalid(str(error), pointer="/trials" if drawn and asked.trials is None else "/grid") from None


MAX_BYTES = 64 * 1024 * 1024
"""Most bytes of the commands and environments of all trials together."""


def _trials(asked: schema.NewSweep, params: list[core.Params]) -> list[JobSpec]:
    """Return the jobs of a sweep. Raises Invalid as soon as they are too large."""
    env = sum(len(name) + len(value) for name, value in asked.job.env.items())
    found, size = [], 0
    for one in params:
        found.append(_trial_of(asked, one))
        command = sum(map(len, found[-1].argv))
        size += command + env
        if command > MAX_ARGV_BYTES:
            raise Invalid(
                f"the command of a trial has more than {MAX_ARGV_BYTES} characters", pointer="/argv"
            )
        if size > MAX_BYTES:
            raise Invalid(
                f"the commands and environments of {len(params)} trials are larger than {MAX_BYTES} bytes",
                pointer="/env" if env * 2 > size // len(found) else "/argv",
                hint="make them shorter, or make a sweep of fewer trials",
            )
    return found


def _trial_of(asked: schema.NewSweep, params: core.Params) -> JobSpec:
    job = asked.job
    return msgspec.structs.replace(
        job,
        argv=core.trial_command(job.argv, params, shell=job.shell, arguments=asked.arguments),
        params={**job.params, **params},
        rungs=Rungs(first=asked.min_step, eta=asked.eta, metric=asked.metric) if asked.halving else None,
    )


@table.route("GET", "/v1/sweeps", Policy.LOOK, query=SweepQuery, answer=schema.SweepPage)
async def list_sweeps(call: Call) -> schema.SweepPage:
    """List sweeps, newest first."""
    query: SweepQuery = call.query
    before = None
    if query.cursor is not None:
        if not (query.cursor.isascii() and query.cursor.isdecimal() and len(query.cursor) <= 18):
            raise BadRequest("this cursor is not one of ours", hint="start again without a cursor")
        before = int(query.cursor)

    def fetch(db: Connection) -> schema.SweepPage:
        found = sweeps.newest(db, limit=query.limit, before=before, visible=call.rights.visible)
        return schema.SweepPage(
            items=[_shown(db, one) for one in found],
            next_cursor=str(found[-1].id) if len(found) == query.limit else None,
        )

    return await call.context.store.survey(fetch)


@table.route(
    "GET", "/v1/sweeps/{id}", Policy.LOOK, query=GetQuery, answer=schema.Sweep, errors=(404,), streams=True
)
async def get_sweep(call: Call) -> schema.Sweep:
    """A sweep with its trials: what they try, what they have shown, what was decided at their rungs and what
    that saved; with wait_s, when all have ended."""
    sweep_id = arrays.id_of(call, "sweep")
    await call.context.store.look(access.must_see_sweep, call.rights, sweep_id)
    await arrays.wait_for_end(call, sweep_id)
    return await _one(call, sweep_id)


@table.route(
    "POST",
    "/v1/sweeps/{id}/cancel",
    Policy.CHANGE,
    body=schema.Cancel,
    body_optional=True,
    answer=schema.SweepChanged,
    status=202,
    errors=(404,),
    streams=True,
)
async def cancel_sweep(call: Call) -> schema.SweepChanged:
    """Cancel all trials of a sweep that have not ended; those that wait come first."""
    sweep_id = arrays.id_of(call, "sweep")
    await call.context.store.look(access.must_see_sweep, call.rights, sweep_id)
    changed = await arrays.cancel_all(call)
    return schema.SweepChanged(sweep=await _one(call, sweep_id), changed=changed.changed)


async def _one(call: Call, sweep_id: int) -> schema.Sweep:
    boot = call.context.clock.boot()

    def fetch(db: Connection) -> schema.Sweep:
        shown = _shown(db, sweeps.find(db, sweep_id))
        shown.trials = [_trial(one, boot) for one in sweeps.trials(db, sweep_id)]
        shown.gpu_seconds = sum(one.gpu_seconds for one in shown.trials)
        shown.saved_gpu_seconds = sum(one.saved_gpu_seconds or 0.0 for one in shown.trials)
        return shown

    return await call.context.store.survey(fetch)


def _shown(db: Connection, one: sweeps.Sweep) -> schema.Sweep:
    best = sweeps.best(db, one)
    return schema.Sweep(
        id=one.id,
        name=one.name,
        user=one.user,
        state="ended" if array_rows.is_over(db, one.id) else "running",
        submitted_at=bodies.instant(one.submitted_at),
        metric=one.metric,
        mode=one.mode,
        halving=one.halving,
        eta=one.eta,
        min_step=one.min_step,
        asked=one.asked,
        counts=sweeps.counts(db, one.id),
        best=schema.SweepBest(id=best.id, ref=best.ref, params=best.params, value=best.value, step=best.step)
        if best is not None
        else None,
    )


def _trial(one: sweeps.Trial, boot: float) -> schema.SweepTrial:
    job = one.job
    early = [attempt for attempt in one.attempts if attempt.spared_ms]
    last = one.attempts[-1] if one.attempts else None
    return schema.SweepTrial(
        id=job.id,
        ref=job.ref,
        number=job.array_index or 0,
        params=one.params,
        state=job.state,
        class_=job.class_,
        explanation=job.explanation,
        stopped_early=one.stopped_early,
        value=one.last,
        step=one.last_step,
        total=last.total_steps if last is not None else None,
        best=one.best,
        best_step=one.best_step,
        rungs=[
            schema.SweepRung(
                rung=each.rung, step=each.step, value=each.value, verdict=each.verdict, note=each.note
            )
            for each in one.rungs
        ],
        started_at=bodies.maybe_instant(job.started_at),
        ended_at=bodies.maybe_instant(job.ended_at),
        gpu_seconds=sum(bodies.gpu_seconds(each, boot) for each in one.attempts),
        saved_gpu_seconds=sum(each.spared_ms / 1000 * each.gpu_parts for each in early) if early else None,
    )
