"""The default policy: short jobs first, long ones when they are due, wide ones in batches, with preemption of
jobs that can resume.

Two-level least attained service (Tiresias, NSDI 2019) over the preemptible jobs, classes by time limit for
the others; within a class by due time (:mod:`leptond.core.scheduling.order_keys`). Measured on traces:
docs/decisions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

import msgspec

from leptond.core.scheduling.inputs import CarriedState, Running, Waiting
from leptond.core.scheduling.order_keys import LEAST_RUN_S, expected_run_s, running_order_keys
from leptond.core.scheduling.plan_builder import PlanBuilder, SortKey, SortKeyOf, preempt_exempt_s

RunningSortKey = Callable[[PlanBuilder, Running, float], SortKey]

PREEMPTIBLE_FACTOR = 4.0
"""Factor on `overdue_factor` where jobs can be preempted: waits are short there, and only very overdue jobs
need to be served before all others."""


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
    if victims or builder.releasing:
        _preempting_pass(builder, queue, key, victims)
    else:
        for job in queue:
            if not builder.free:
                break
            if job.gpus <= len(builder.free) and job.id not in builder.placed:
                builder.start(job)
    _account_starts(builder, queue, batch)
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
    short ones. Empty unless a batch is being served."""
    policy, carried = builder.policy, builder.carried
    factor = policy.overdue_factor * (PREEMPTIBLE_FACTOR if builder.any_preemptible else 1.0)
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


def _account_starts(builder: PlanBuilder, queue: list[Waiting], batch: list[Waiting]) -> None:
    """Credit overdue jobs with their share of the GPU time just given out, at most one batch, less what they
    got.

    A job with preemptions under way is accounted when it starts, so that it stays first until then."""
    started = {start.id for start in builder.starts}
    if not started:
        return
    served = {job.id for job in batch}
    owed = builder.carried.owed_gpu_s
    for job in queue:
        if job.id in started:
            remaining_s = max(
                LEAST_RUN_S, expected_run_s(job, builder.policy) - job.attained_gpu_s / job.gpus
            )
            owed += remaining_s * job.gpus * (builder.policy.overdue_share - (job.id in served))
    owed = min(owed, builder.policy.overdue_batch_gpu_s)
    builder.carried = CarriedState(owed_gpu_s=owed, serving_overdue=builder.carried.serving_overdue)


def _wake_for_preemption(builder: PlanBuilder) -> None:
    """Ask for a pass when time alone changes what may be preempted: an exempt time is over, or a job turns
    long."""
    for job in builder.running:
        if not job.preemptible or job.stopping or not job.gpus:
            continue
        builder.wake_by(job.started_at + preempt_exempt_s(job.eviction_cost_s, builder.policy))
        attained_gpu_s = job.attained_gpu_s + (builder.now - job.started_at) * len(job.gpus)
        builder.wake_by(builder.now + (builder.policy.class_gpu_s - attained_gpu_s) / len(job.gpus))
