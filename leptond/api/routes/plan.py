"""Forecasts over HTTP: the plan under any policy, and the estimate for a job that is not yet submitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from leptond import schema
from leptond.api.http import omitted
from leptond.api.http.routing import Call, Table
from leptond.api.views import bodies, outline
from leptond.core.access.policies import Policy
from leptond.core.access.rights import Rights, Sight
from leptond.core.jobs.model import Gpu, JobSpec, Reason
from leptond.core.jobs.timespec import format_duration
from leptond.core.scheduling import planner
from leptond.core.scheduling.forecast import Eta, is_foreseeable
from leptond.core.scheduling.inputs import PlanInput, PolicyName, Waiting
from leptond.core.scheduling.wait_reasons import unforeseen
from leptond.services.admission import Admission, budget_warnings
from leptond.store import Connection
from leptond.store.planning import forecast, snapshot
from leptond.store.planning.candidates import WINDOW
from leptond.store.queue import lists, queues

table = Table("plan")

MEMBERS = 100
"""Most members of an array in an estimate."""


class PlanQuery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`policy`: as if that one decided; the daemon's own without it."""

    policy: PolicyName | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


@table.route("GET", "/v1/plan", Policy.LOOK, query=PlanQuery, answer=schema.Plan)
async def plan(call: Call) -> schema.Plan:
    """List which jobs start when and on which GPUs, if runs take as long as expected and nothing else is
    submitted."""
    context, query, unhealthy = call.context, call.query, call.context.gpu_view.unhealthy()
    policy = context.settings.policy()
    if query.policy is not None:
        policy = msgspec.structs.replace(policy, name=query.policy)
    now, boot = context.clock.wall(), context.clock.boot()

    def fetch(db: Connection) -> schema.Plan:
        outlook = context.forecasts.outlook(
            db, now=now, boot=boot, unhealthy=unhealthy, cpu_slots=context.settings.cpu_slots(), policy=policy
        )
        inputs, etas = outlook.inputs(db, WINDOW), outlook.etas(db)
        order = sorted(etas.values(), key=lambda eta: (eta.likely.start_at, eta.likely.id))
        named = lists.names(db, [eta.likely.id for eta in order[: query.limit]])
        return schema.Plan(
            policy=policy.name,
            at=bodies.instant(outlook.now),
            items=[
                planned(
                    eta,
                    inputs.gpus,
                    _as_seen(named[eta.likely.id], call.rights),
                    unknown_run_s=policy.unknown_run_s,
                )
                for eta in order[: query.limit]
                if eta.likely.id in named
            ],
            not_foretold=len(inputs.waiting) - len(etas),
        )

    return await context.store.survey(fetch)


def _as_seen(named: lists.Named, rights: Rights) -> lists.Named:
    if rights.sight(named.user, named.project) is Sight.OUTLINE:
        return msgspec.structs.replace(named, name=outline.PRIVATE)
    return named


def planned(eta: Eta, gpus: Sequence[Gpu], named: lists.Named, *, unknown_run_s: float) -> schema.Planned:
    """Return a forecast as HTTP shows it."""
    end_at = eta.likely.end_at
    index = {gpu.uuid: gpu.index for gpu in gpus}
    return schema.Planned(
        id=eta.likely.id,
        ref=named.ref,
        name=named.name,
        user=named.user,
        gpus=named.gpus,
        gpu_indices=sorted(index[uuid] for uuid in eta.likely.gpus),
        starts_at=bodies.instant(eta.likely.start_at),
        earliest_at=bodies.maybe_instant(eta.earliest_at),
        latest_at=bodies.maybe_instant(eta.latest_at),
        ends_at=bodies.instant(end_at if end_at is not None else eta.likely.start_at + unknown_run_s),
        ends_known=end_at is not None,
    )


def _not_foretold(inputs: PlanInput, own: Waiting) -> tuple[Reason, str]:
    """Why it cannot be said when a job would start: GPUs that are out of service, runs without end, or a long
    queue."""
    wait = planner.plan(snapshot.with_waiting(inputs, [*inputs.waiting, own])).waits.get(own.id)
    if wait is not None and wait.reason in (Reason.DRAINING, Reason.GPU_UNHEALTHY, Reason.IMPOSSIBLE):
        return wait.reason, f"it would not start as things are: it {wait.sentence}"
    unknown = [
        job.id for job in inputs.running if not is_foreseeable(job) and bool(job.gpus) == bool(own.gpus)
    ]
    names = [inputs.refs.get(job_id, str(job_id)) for job_id in unknown[:3]]
    if not names:
        return Reason.RESOURCES, "so many jobs stand before it that its start cannot be foretold"
    return Reason.RESOURCES, f"its start cannot be foretold: {unforeseen(names)}"


@table.route("POST", "/v1/queue/estimate", Policy.SUBMIT, body=JobSpec, answer=schema.Estimate)
async def estimate(call: Call) -> schema.Estimate:
    """When a job would start if it were submitted now: checked as a submit is, and nothing is stored."""
    context, unhealthy = call.context, call.context.gpu_view.unhealthy()
    now, boot = context.clock.wall(), context.clock.boot()

    facts = await context.admission_facts.get()
    admission = Admission(facts, context.settings, call.caller)
    unsaid = [omitted.gpus_of_job(call.raw)]
    admitted = admission.admit(admission.with_default_gpus(call.body, unsaid=unsaid[0]))
    seen = await context.file_look.at_submit(
        [admitted],
        user=call.caller.user,
        uid=call.caller.uid,
        path=context.settings.jobs.path,
        in_batch=False,
        unsaid=admission.may_forget([admitted], unsaid=unsaid),
    )

    def fetch(db: Connection) -> schema.Estimate:
        spec = admitted.spec
        borrow = queues.named(facts.queues, spec.queue).borrow
        words = budget_warnings(db, [admitted], user=call.caller.user, now=now)
        own = forecast.would_wait(db, admitted, user=call.caller.user, now=now, borrow=borrow, most=MEMBERS)
        answer = schema.Estimate(
            warnings=admission.warnings([admitted], seen, words)[0],
            jobs=admitted.count,
            expected_run_s=own[0].predicted_s or spec.time_limit_s,
        )
        if spec.hold:
            answer.reason, answer.sentence = Reason.HELD, "it would be held until it is released"
            return answer
        if spec.after or spec.after_any or spec.after_fail:
            answer.reason = Reason.DEPENDENCY
            answer.sentence = "it would wait for other jobs first, and nobody can tell how those end"
            return answer
        inputs = context.forecasts.outlook(
            db,
            now=now,
            boot=boot,
            unhealthy=unhealthy,
            cpu_slots=context.settings.cpu_slots(),
            policy=context.settings.policy(),
        ).inputs(db, WINDOW)
        if own[0].since > now:
            inputs = msgspec.structs.replace(inputs, now=own[0].since)
        etas = forecast.etas(inputs, own, until=own[0].id if len(own) == 1 else None)
        eta = etas.get(own[0].id)
        if eta is None:
            answer.reason, answer.sentence = _not_foretold(inputs, own[0])
            return answer
        _foretell(answer, eta, inputs.gpus)
        wait_s = eta.likely.start_at - now
        if wait_s <= 0:
            answer.sentence = "it would start at once"
        else:
            answer.reason = Reason.RESOURCES if own[0].since <= now else Reason.BEGIN_TIME
            answer.sentence = f"it would start in about {format_duration(wait_s)}"
        return answer

    return await context.store.survey(fetch)


def _foretell(answer: schema.Estimate, eta: Eta, gpus: Sequence[Gpu]) -> None:
    index = {gpu.uuid: gpu.index for gpu in gpus}
    answer.starts_at = bodies.instant(eta.likely.start_at)
    answer.earliest_at = bodies.maybe_instant(eta.earliest_at)
    answer.latest_at = bodies.maybe_instant(eta.latest_at)
    answer.ends_at = bodies.maybe_instant(eta.likely.end_at)
    answer.gpu_indices = sorted(index[uuid] for uuid in eta.likely.gpus)
