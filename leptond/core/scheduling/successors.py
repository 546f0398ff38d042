"""The choice of successors: which waiting jobs start, in which order, on the slots of running ones as those
end. Pure. Only where that does not depend on anything else is a successor chosen: where there is doubt, an
end is followed by a plan of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from leptond.core.scheduling.inputs import Plan, PlanInput, Running, Start, Waiting
from leptond.core.scheduling.overdue import need_gpu_s, next_turn_at
from leptond.core.scheduling.plan_builder import PREEMPTING_POLICIES
from leptond.core.scheduling.planner import plan

BACKFILLING_POLICIES = frozenset({"easy", "firstfit"})
"""Policies under which a job may start before one that GPUs are reserved for."""

MOST_RUNNING = 16
"""Most running jobs that successors are chosen for."""

SHORT_RUN_S = 2.0
"""Jobs that are expected to run no longer than this are short."""

SHORT_DEPTH = 4
"""Successors of a slot whose jobs are short; all others have one."""


class ChosenLine(msgspec.Struct, frozen=True, kw_only=True):
    """When one of the jobs `running` (ids) ends, `waiting` (ids) start in this order on exactly its GPUs, and
    so on; `alike`: also when another job ends that has as many. `granted_gpu_s`: the GPU time that each of
    `waiting` is given by that. Until `wake_at` (wall time; None: for ever) time changes nothing of it."""

    running: Sequence[int]
    waiting: Sequence[int]
    granted_gpu_s: Sequence[float]
    alike: bool
    wake_at: float | None


def choose(inputs: PlanInput, ready: Mapping[int, float | None], *, most: int) -> list[ChosenLine]:
    """Return the lines for a machine on which nothing is to be done now. `ready`: how long the jobs whose
    next attempt is at its gate are expected to run, by id, in seconds (None: it is not known); `most`:
    successors in all."""
    found = []
    in_service = {gpu.uuid for gpu in inputs.gpus if gpu.schedulable}
    for of_gpus in (False, True):
        part = msgspec.structs.replace(
            inputs, waiting=[job for job in inputs.waiting if (job.gpus > 0) == of_gpus]
        )
        members = [
            job
            for job in inputs.running[:MOST_RUNNING]
            if bool(job.gpus) == of_gpus
            and not job.stopping
            and (job.share_bytes is None or job.exclusive)
            and in_service.issuperset(job.gpus)  # one that is drained has no next job
        ]
        if part.waiting and members:
            found += list(_lines(part, members, ready))
    return list(_within(found, most))


def _within(lines: Sequence[ChosenLine], most: int) -> Iterator[ChosenLine]:
    taken: set[int] = set()
    for line in lines:
        count = 0
        while count < len(line.waiting) and line.waiting[count] not in taken and most > 0:
            taken.add(line.waiting[count])
            count, most = count + 1, most - 1
        if count:
            yield msgspec.structs.replace(
                line, waiting=line.waiting[:count], granted_gpu_s=line.granted_gpu_s[:count]
            )


def _lines(
    inputs: PlanInput, members: Sequence[Running], ready: Mapping[int, float | None]
) -> Iterator[ChosenLine]:
    alike = _are_alike(inputs)
    first_of: dict[object, tuple[Start, Plan] | None] = {}
    groups: dict[int, list[Running]] = {}
    plans: dict[int, Plan] = {}
    for job in members:
        kind = (len(job.gpus), None) if alike else (len(job.gpus), job.id)
        if kind not in first_of:
            first_of[kind] = _next(inputs, job, ready)
        first = first_of[kind]
        if first is not None:
            groups.setdefault(first[0].id, []).append(job)
            plans.setdefault(first[0].id, first[1])
    for first_id, group in groups.items():
        yield _extended(inputs, group, first_id, plans[first_id], ready, deep=alike)


def _are_alike(inputs: PlanInput) -> bool:
    """Return True if it makes no difference which of the running jobs with as many GPUs ends first."""
    return (
        not inputs.policy.limits.any
        and not any(
            job.array_limit is not None
            or job.gpu_type is not None
            or job.gpu_memory_bytes is not None
            or job.avoid
            or job.preemptible
            for job in inputs.waiting
        )
        and not any(gpu.owner is not None or gpu.mig for gpu in inputs.gpus)
    )


def _next(inputs: PlanInput, ending: Running, ready: Mapping[int, float | None]) -> tuple[Start, Plan] | None:
    """Return what starts on exactly the slot of `ending` if that ends now, with the plan; None if nothing
    does, if that needs more or less, or if it depends on time or on what others are owed."""
    others = [one for one in inputs.running if one.id != ending.id]
    made = plan(msgspec.structs.replace(inputs, running=others), explain=False)
    if len(made.starts) != 1 or made.preempts or made.carried.serving_overdue:
        return None
    if made.reservations and inputs.policy.name in BACKFILLING_POLICIES:
        return None  # whether it delays the reserved job is a matter of time
    (start,) = made.starts
    job = next(one for one in inputs.waiting if one.id == start.id)
    shares = job.gpu_memory_bytes is not None and not job.exclusive
    if job.id not in ready or shares or set(start.gpus) != set(ending.gpus):
        return None
    return start, made


def _extended(
    inputs: PlanInput,
    group: Sequence[Running],
    first_id: int,
    made: Plan,
    ready: Mapping[int, float | None],
    *,
    deep: bool,
) -> ChosenLine:
    """Return the line of a group of running jobs that have the same successor, with those after it."""
    waiting = {job.id: job for job in inputs.waiting}
    jobs, wake_at = [waiting[first_id]], _earlier(made.wake_at, next_turn_at(inputs))
    slots = list(group)
    while deep and len(jobs) < len(group) * _depth(ready[jobs[-1].id]):
        ended, *slots = slots
        slots.append(_running(jobs[-1], ended, inputs.now))
        ids = {job.id for job in group} | {job.id for job in jobs}
        inputs = msgspec.structs.replace(
            inputs,
            waiting=[job for job in inputs.waiting if job.id != jobs[-1].id],
            running=[*(job for job in inputs.running if job.id not in ids), *slots],
            carried=made.carried,
        )
        following = _next(inputs, slots[0], ready)
        if following is None:
            break
        start, made = following
        jobs.append(waiting[start.id])
        wake_at = _earlier(wake_at, made.wake_at)
    counted = inputs.policy.name in PREEMPTING_POLICIES
    return ChosenLine(
        running=[job.id for job in group],
        waiting=[job.id for job in jobs],
        granted_gpu_s=[need_gpu_s(job, inputs.policy) if counted and job.gpus else 0.0 for job in jobs],
        alike=deep,
        wake_at=wake_at,
    )


def _earlier(first: float | None, second: float | None) -> float | None:
    return min((at for at in (first, second) if at is not None), default=None)


def _depth(expected_s: float | None) -> int:
    """Return how many successors a slot has."""
    return SHORT_DEPTH if expected_s is not None and expected_s <= SHORT_RUN_S else 1


def _running(job: Waiting, before: Running, now: float) -> Running:
    return Running(
        id=job.id,
        gpus=before.gpus,
        array_id=job.array_id,
        user=job.user,
        project=job.project,
        queue=job.queue,
        exclusive=job.exclusive,
        priority=job.priority,
        since=job.since,
        started_at=now,
        preemptible=job.preemptible,
        urgent=job.urgent,
        limit_s=job.limit_s,
        predicted_s=job.predicted_s,
        attained_gpu_s=job.attained_gpu_s,
        eviction_cost_s=job.eviction_cost_s,
        handicap_s=job.handicap_s,
    )
