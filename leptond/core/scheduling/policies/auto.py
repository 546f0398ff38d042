"""The default: short jobs first, long ones when they are due, wide ones in batches, and whoever can resume
makes room.

Two-level least attained service (Tiresias, NSDI 2019) over the jobs that can be preempted, the class by the
limit for the others; inside a class by the time that a job is due
(:mod:`leptond.core.scheduling.order_keys`). Measured on traces: docs/decisions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

import msgspec

from leptond.core.scheduling.inputs import Memory, Running, Waiting
from leptond.core.scheduling.order_keys import LEAST_RUN_S, expected_s, rank_running
from leptond.core.scheduling.plan_builder import Key, Order, Turn, least_run_s

RunningOrder = Callable[[Turn, Running, float], Order]

VERY = 4.0
"""Where jobs can make room for others, waits are short by themselves: only what is overdue so many times
over goes before all others."""


def auto(turn: Turn) -> None:
    """The default policy."""
    _serve(turn, turn.due, _due)


def throughput(turn: Turn) -> None:
    """As `auto`, with the shortest expected run first among the long jobs: a better mean, paid for by wide
    and long ones."""
    _serve(turn, lambda job: _by_run(turn, job), _run_by_run)


def _due(turn: Turn, job: Running, attained_gpu_s: float) -> Order:
    stored = rank_running(job, attained_gpu_s, turn.policy)
    return (not job.urgent, stored.lane, stored.due_at + job.handicap_s, job.id)


def _by_run(turn: Turn, job: Waiting) -> Order:
    urgent, lane, due_at, number = turn.due(job)
    return (urgent, lane, turn.rank(job).short_s if lane else due_at, number)


def _run_by_run(turn: Turn, job: Running, attained_gpu_s: float) -> Order:
    stored = rank_running(job, attained_gpu_s, turn.policy)
    place = stored.short_s if stored.lane else stored.due_at + job.handicap_s
    return (not job.urgent, stored.lane, place, job.id)


class Soft(msgspec.Struct, frozen=True):
    """A running job that may be told to make room, with the place that it holds in the queue's order."""

    key: Order
    job: Running


def _serve(turn: Turn, order: Key, running_order: RunningOrder) -> None:
    soft = _soft(turn, running_order)
    if not turn.free and not turn.coming and not soft:
        _wake(turn)
        return
    queue = turn.queue(order)
    batch = _batch(turn, queue)
    for job in batch:
        if turn.barred(job) is not None:
            continue
        gone = turn.make_room(job, [each.job for each in soft])
        if gone is None:
            turn.reserve(job, [each.job for each in soft])
            break
        soft = [each for each in soft if each.job not in gone]
    if soft or turn.coming:
        _pass_with_evictions(turn, queue, order, soft)
    else:
        for job in queue:
            if not turn.free:
                break
            if job.gpus <= len(turn.free) and job.id not in turn.placed:
                turn.start(job)
    _remember(turn, queue, batch)
    if len(turn.placed) < len(turn.waiting):
        _wake(turn)


def _pass_with_evictions(turn: Turn, queue: list[Waiting], order: Key, soft: list[Soft]) -> None:
    """The queue in order; each job takes what is free, or what those behind it can give."""
    keys = [each.key for each in soft]
    movable = sum(len(each.job.gpus) for each in soft)
    for job in queue:
        ready = len(turn.free) + len(turn.coming)
        if not ready and not movable:
            return
        if job.gpus > ready + movable or job.id in turn.placed:
            continue
        behind = bisect_right(keys, order(job))
        if not ready and behind == len(soft):
            return
        gone = turn.make_room(job, [each.job for each in soft[behind:]])
        if gone:
            soft = [each for each in soft if each.job not in gone]
            keys = [each.key for each in soft]
            movable = sum(len(each.job.gpus) for each in soft)


def _soft(turn: Turn, running_order: RunningOrder) -> list[Soft]:
    """Who may be evicted, in the order of the queue: those that can resume and have run long enough."""
    found = []
    for job in turn.running:
        if not job.preemptible or job.stopping or not job.gpus or job.share_bytes is not None:
            continue  # of a GPU that others share, one of them frees nothing
        ran_s = turn.now - job.started_at
        if ran_s < least_run_s(job.eviction_cost_s, turn.policy):
            continue
        attained_gpu_s = job.attained_gpu_s + ran_s * len(job.gpus)
        found.append(Soft(running_order(turn, job, attained_gpu_s), job))
    return sorted(found, key=lambda each: each.key)


def _batch(turn: Turn, queue: list[Waiting]) -> list[Waiting]:
    """The overdue jobs that are served before all others now, oldest first: those that every job which does
    not make room keeps out, and long ones behind a stream of short ones that never ends."""
    policy, memory = turn.policy, turn.memory
    factor = policy.overdue_factor * (VERY if turn.soft else 1.0)
    overdue = []
    for job in queue:
        waited_s = turn.now - job.since
        if waited_s > policy.overdue_s and waited_s > factor * expected_s(job, policy):
            overdue.append(job)
    if not overdue or (memory.batch and memory.owed_gpu_s <= 0):
        turn.memory = msgspec.structs.replace(memory, batch=False)
    elif memory.owed_gpu_s >= policy.overdue_batch_gpu_s:
        turn.memory = msgspec.structs.replace(memory, batch=True)
    return sorted(overdue, key=lambda job: (job.since, job.id)) if turn.memory.batch else []


def _remember(turn: Turn, queue: list[Waiting], batch: list[Waiting]) -> None:
    """Books what was given out: a share of it is owed to the overdue, up to one batch, less what they
    got. A job that others make room for counts when it starts, so that it is first until then."""
    started = {start.id for start in turn.starts}
    if not started:
        return
    served = {job.id for job in batch}
    owed = turn.memory.owed_gpu_s
    for job in queue:
        if job.id in started:
            left_s = max(LEAST_RUN_S, expected_s(job, turn.policy) - job.attained_gpu_s / job.gpus)
            owed += left_s * job.gpus * (turn.policy.overdue_share - (job.id in served))
    owed = min(owed, turn.policy.overdue_batch_gpu_s)
    turn.memory = Memory(owed_gpu_s=owed, batch=turn.memory.batch)


def _wake(turn: Turn) -> None:
    """When time alone changes who may be evicted: a minimum run is over, or a job turns long."""
    for job in turn.running:
        if not job.preemptible or job.stopping or not job.gpus:
            continue
        turn.wake(job.started_at + least_run_s(job.eviction_cost_s, turn.policy))
        attained_gpu_s = job.attained_gpu_s + (turn.now - job.started_at) * len(job.gpus)
        turn.wake(turn.now + (turn.policy.class_gpu_s - attained_gpu_s) / len(job.gpus))
