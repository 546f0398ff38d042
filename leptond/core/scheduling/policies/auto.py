"""The default policy: short jobs first, long ones when they are due, wide ones in batches, with preemption of
jobs that can resume.

Two-level least attained service (Tiresias, NSDI 2019) over the preemptible jobs, classes by time limit for
the others; within a class by due time (:mod:`leptond.core.scheduling.order_keys`). Measured on traces:
docs/decisions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Set

import msgspec

from leptond.core.scheduling import overdue
from leptond.core.scheduling.inputs import Running, Waiting
from leptond.core.scheduling.order_keys import running_order_keys
from leptond.core.scheduling.plan_builder import PlanBuilder, SortKey, SortKeyOf, preempt_exempt_s

RunningSortKey = Callable[[PlanBuilder, Running, float], SortKey]

WAKE_LATER_S = 1e-3
"""A pass at the very moment might find the budget a rounding error short."""


def auto(builder: PlanBuilder) -> None:
    """Schedule by class and due time."""
    _serve(builder, builder.by_due_time, _running_by_due_time)


def throughput(builder: PlanBuilder) -> None:
    """Schedule as `auto`, but the shortest expected run first among the long jobs.

    The mean wait is shorter, at the expense of wide and long jobs."""
    _serve(builder, lambda job: _by_expected_run(builder, job), _running_by_expected_run)


def _running_by_due_time(builder: PlanBuilder, job: Running, attained_gpu_s: float) -> SortKey:
    keys = running_order_keys(job, attained_gpu_s, builder.policy)
    return (not job.urgent, keys.lane, keys.due_at + job.handicap_s, job.id)


def _by_expected_run(builder: PlanBuilder, job: Waiting) -> SortKey:
    urgent, lane, due_at, number = builder.by_due_time(job)
    return (urgent, lane, builder.order_keys(job).short_s if lane else due_at, number)


def _running_by_expected_run(builder: PlanBuilder, job: Running, attained_gpu_s: float) -> SortKey:
    keys = running_order_keys(job, attained_gpu_s, builder.policy)
    place = keys.short_s if keys.lane else keys.due_at + job.handicap_s
    return (not job.urgent, keys.lane, place, job.id)


class Victim(msgspec.Struct, frozen=True):
    """A running job that may be preempted, with its sort key in the order of the queue."""

    key: SortKey
    job: Running


def _serve(builder: PlanBuilder, key: SortKeyOf, running_key: RunningSortKey) -> None:
    victims = _victims(builder, running_key)
    if not builder.free and not builder.releasing and not victims:
        _wake_for_preemption(builder)
        return
    queue = builder.queue(key)
    batch = _overdue_batch(builder, queue)
    for job in batch:
        if builder.blocking_limit(job) is not None:
            continue
        preempted = builder.make_room(job, [each.job for each in victims])
        if preempted is None:
            builder.reserve(job, [each.job for each in victims])
            break
        victims = [each for each in victims if each.job not in preempted]
    served = {job.id for job in batch if job.id in builder.placed}
    if victims or builder.releasing:
        _preempting_pass(builder, queue, key, victims)
    else:
        for job in queue:
            if not builder.free:
                break
            if job.gpus <= len(builder.free) and job.id not in builder.placed:
                builder.start(job)
    _account_starts(builder, queue, served)
    if len(builder.placed) < len(builder.waiting):
        _wake_for_preemption(builder)


def _preempting_pass(
    builder: PlanBuilder, queue: list[Waiting], key: SortKeyOf, victims: list[Victim]
) -> None:
    """Go through the queue in order; each job takes what is free, or what jobs behind it can release."""
    keys = [each.key for each in victims]
    movable = sum(len(each.job.gpus) for each in victims)
    for job in queue:
        ready = len(builder.free) + len(builder.releasing)
        if not ready and not movable:
            return
        if job.gpus > ready + movable or job.id in builder.placed:
            continue
        behind = bisect_right(keys, key(job))
        if not ready and behind == len(victims):
            return
        preempted = builder.make_room(job, [each.job for each in victims[behind:]])
        if preempted:
            victims = [each for each in victims if each.job not in preempted]
            keys = [each.key for each in victims]
            movable = sum(len(each.job.gpus) for each in victims)


def _victims(builder: PlanBuilder, running_key: RunningSortKey) -> list[Victim]:
    """Return the jobs that may be preempted, in the order of the queue: preemptible ones that have run long
    enough."""
    found = []
    for job in builder.running:
        if not job.preemptible or job.stopping or not job.gpus or job.share_bytes is not None:
            continue  # a shared GPU comes free only with its last holder
        ran_s = builder.now - job.started_at
        if ran_s < preempt_exempt_s(job.eviction_cost_s, builder.policy):
            continue
        attained_gpu_s = job.attained_gpu_s + ran_s * len(job.gpus)
        found.append(Victim(running_key(builder, job, attained_gpu_s), job))
    return sorted(found, key=lambda each: each.key)


def _overdue_batch(builder: PlanBuilder, queue: list[Waiting]) -> list[Waiting]:
    """Return the overdue jobs to serve before all others, the oldest first.

    These are jobs that running jobs keep out by never making room, and long jobs behind an endless stream of
    short ones. Empty unless enough is put aside for them."""
    now, policy, gpus = builder.now, builder.policy, builder.usable
    jobs = [
        job for job in queue if now > overdue.overdue_at(job, policy, any_preemptible=builder.any_preemptible)
    ]
    jobs.sort(key=lambda job: (job.since, job.id))
    carried = builder.carried
    if jobs and (carried.owed_at is None or carried.owed_at > now):
        carried = overdue.settled(carried, now, policy, gpus)  # the first time, or the clock was set back
    budget = overdue.budget_gpu_s(carried, now, policy, gpus)
    serving = bool(jobs) and budget > 0
    if serving and not carried.serving_overdue:
        price = overdue.price_gpu_s(jobs[0], policy, gpus)
        serving = budget >= price
        if not serving:
            builder.wake_by(overdue.budget_reached_at(carried, price, now, policy, gpus) + WAKE_LATER_S)
    if serving != carried.serving_overdue:
        settled = overdue.settled(carried, now, policy, gpus)
        carried = msgspec.structs.replace(settled, serving_overdue=serving)
    builder.carried = carried
    return jobs if serving else []


def _account_starts(builder: PlanBuilder, queue: list[Waiting], served: Set[int]) -> None:
    """Put aside a share of the GPU time just given out, and charge what the jobs `served` got of it.

    A job with preemptions under way is charged when it starts, so that it stays first until then. An overdue
    job that is backfilled costs nothing, or it would spend what is put aside for the one that it was put
    before."""
    started = {start.id for start in builder.starts}
    if not started:
        return
    granted = {job.id: overdue.need_gpu_s(job, builder.policy) for job in queue if job.id in started}
    builder.carried = overdue.after_starts(
        builder.carried,
        builder.now,
        builder.policy,
        builder.usable,
        granted_gpu_s=sum(granted.values()),
        spent_gpu_s=sum(granted[number] for number in granted.keys() & served),
    )


def _wake_for_preemption(builder: PlanBuilder) -> None:
    """Ask for a pass when time alone changes what may be preempted: an exempt time is over, or a job turns
    long."""
    for job in builder.running:
        if not job.preemptible or job.stopping or not job.gpus:
            continue
        builder.wake_by(job.started_at + preempt_exempt_s(job.eviction_cost_s, builder.policy))
        attained_gpu_s = job.attained_gpu_s + (builder.now - job.started_at) * len(job.gpus)
        builder.wake_by(builder.now + (builder.policy.class_gpu_s - attained_gpu_s) / len(job.gpus))
