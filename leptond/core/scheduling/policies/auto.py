"""The default: short jobs first, long ones when they are due, wide ones in batches, and whoever can resume
makes room.

Two-level least attained service (Tiresias, NSDI 2019) over the jobs that can be preempted, the class by the
limit for the others; inside a class by the time that a job is due
(:mod:`leptond.core.scheduling.order_keys`). Measured on traces: docs/decisions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

import msgspec

from leptond.core.scheduling.inputs import CarriedState, Running, Waiting
from leptond.core.scheduling.order_keys import LEAST_RUN_S, expected_run_s, running_order_keys
from leptond.core.scheduling.plan_builder import PlanBuilder, SortKey, SortKeyOf, preempt_exempt_s

RunningOrder = Callable[[PlanBuilder, Running, float], SortKey]

VERY = 4.0
"""Where jobs can make room for others, waits are short by themselves: only what is overdue so many times
over goes before all others."""


def auto(builder: PlanBuilder) -> None:
    """The default policy."""
    _serve(builder, builder.by_due_time, _due)


def throughput(builder: PlanBuilder) -> None:
    """As `auto`, with the shortest expected run first among the long jobs: a better mean, paid for by wide
    and long ones."""
    _serve(builder, lambda job: _by_run(builder, job), _run_by_run)


def _due(builder: PlanBuilder, job: Running, attained_gpu_s: float) -> SortKey:
    stored = running_order_keys(job, attained_gpu_s, builder.policy)
    return (not job.urgent, stored.lane, stored.due_at + job.handicap_s, job.id)


def _by_run(builder: PlanBuilder, job: Waiting) -> SortKey:
    urgent, lane, due_at, number = builder.by_due_time(job)
    return (urgent, lane, builder.order_keys(job).short_s if lane else due_at, number)


def _run_by_run(builder: PlanBuilder, job: Running, attained_gpu_s: float) -> SortKey:
    stored = running_order_keys(job, attained_gpu_s, builder.policy)
    place = stored.short_s if stored.lane else stored.due_at + job.handicap_s
    return (not job.urgent, stored.lane, place, job.id)


class Soft(msgspec.Struct, frozen=True):
    """A running job that may be told to make room, with the place that it holds in the queue's order."""

    key: SortKey
    job: Running


def _serve(builder: PlanBuilder, order: SortKeyOf, running_order: RunningOrder) -> None:
    soft = _soft(builder, running_order)
    if not builder.free and not builder.releasing and not soft:
        _wake(builder)
        return
    queue = builder.queue(order)
    batch = _batch(builder, queue)
    for job in batch:
        if builder.blocking_limit(job) is not None:
            continue
        gone = builder.make_room(job, [each.job for each in soft])
        if gone is None:
            builder.reserve(job, [each.job for each in soft])
            break
        soft = [each for each in soft if each.job not in gone]
    if soft or builder.releasing:
        _pass_with_evictions(builder, queue, order, soft)
    else:
        for job in queue:
            if not builder.free:
                break
            if job.gpus <= len(builder.free) and job.id not in builder.placed:
                builder.start(job)
    _remember(builder, queue, batch)
    if len(builder.placed) < len(builder.waiting):
        _wake(builder)


def _pass_with_evictions(
    builder: PlanBuilder, queue: list[Waiting], order: SortKeyOf, soft: list[Soft]
) -> None:
    """The queue in order; each job takes what is free, or what those behind it can give."""
    keys = [each.key for each in soft]
    movable = sum(len(each.job.gpus) for each in soft)
    for job in queue:
        ready = len(builder.free) + len(builder.releasing)
        if not ready and not movable:
            return
        if job.gpus > ready + movable or job.id in builder.placed:
            continue
        behind = bisect_right(keys, order(job))
        if not ready and behind == len(soft):
            return
        gone = builder.make_room(job, [each.job for each in soft[behind:]])
        if gone:
            soft = [each for each in soft if each.job not in gone]
            keys = [each.key for each in soft]
            movable = sum(len(each.job.gpus) for each in soft)


def _soft(builder: PlanBuilder, running_order: RunningOrder) -> list[Soft]:
    """Who may be evicted, in the order of the queue: those that can resume and have run long enough."""
    found = []
    for job in builder.running:
        if not job.preemptible or job.stopping or not job.gpus or job.share_bytes is not None:
            continue  # of a GPU that others share, one of them frees nothing
        ran_s = builder.now - job.started_at
        if ran_s < preempt_exempt_s(job.eviction_cost_s, builder.policy):
            continue
        attained_gpu_s = job.attained_gpu_s + ran_s * len(job.gpus)
        found.append(Soft(running_order(builder, job, attained_gpu_s), job))
    return sorted(found, key=lambda each: each.key)


def _batch(builder: PlanBuilder, queue: list[Waiting]) -> list[Waiting]:
    """The overdue jobs that are served before all others now, oldest first: those that every job which does
    not make room keeps out, and long ones behind a stream of short ones that never ends."""
    policy, carried = builder.policy, builder.carried
    factor = policy.overdue_factor * (VERY if builder.any_preemptible else 1.0)
    overdue = []
    for job in queue:
        waited_s = builder.now - job.since
        if waited_s > policy.overdue_s and waited_s > factor * expected_run_s(job, policy):
            overdue.append(job)
    if not overdue or (carried.serving_overdue and carried.owed_gpu_s <= 0):
        builder.carried = msgspec.structs.replace(carried, serving_overdue=False)
    elif carried.owed_gpu_s >= policy.overdue_batch_gpu_s:
        builder.carried = msgspec.structs.replace(carried, serving_overdue=True)
    return sorted(overdue, key=lambda job: (job.since, job.id)) if builder.carried.serving_overdue else []


def _remember(builder: PlanBuilder, queue: list[Waiting], batch: list[Waiting]) -> None:
    """Books what was given out: a share of it is owed to the overdue, up to one batch, less what they
    got. A job that others make room for counts when it starts, so that it is first until then."""
    started = {start.id for start in builder.starts}
    if not started:
        return
    served = {job.id for job in batch}
    owed = builder.carried.owed_gpu_s
    for job in queue:
        if job.id in started:
            left_s = max(LEAST_RUN_S, expected_run_s(job, builder.policy) - job.attained_gpu_s / job.gpus)
            owed += left_s * job.gpus * (builder.policy.overdue_share - (job.id in served))
    owed = min(owed, builder.policy.overdue_batch_gpu_s)
    builder.carried = CarriedState(owed_gpu_s=owed, serving_overdue=builder.carried.serving_overdue)


def _wake(builder: PlanBuilder) -> None:
    """When time alone changes who may be evicted: a minimum run is over, or a job turns long."""
    for job in builder.running:
        if not job.preemptible or job.stopping or not job.gpus:
            continue
        builder.wake_by(job.started_at + preempt_exempt_s(job.eviction_cost_s, builder.policy))
        attained_gpu_s = job.attained_gpu_s + (builder.now - job.started_at) * len(job.gpus)
        builder.wake_by(builder.now + (builder.policy.class_gpu_s - attained_gpu_s) / len(job.gpus))
