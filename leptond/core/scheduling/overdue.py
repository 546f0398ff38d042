"""Overdue jobs: when a job is one, the GPU time that is put aside for them, and until when others may start
before one. Pure.

The budget is a token bucket. It fills with `overdue_share` of the GPU time that the machine gives out, at
least of what it could give out in the time that passes, up to one batch. When it has enough for the oldest
overdue job, that one goes first, and further ones until the budget is spent. So drains for wide jobs are
rare, come one behind the other, and leave the rest of the time to the order of the queue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from leptond.core.scheduling.inputs import CarriedState, PlanInput, Policy, Waiting
from leptond.core.scheduling.order_keys import LEAST_RUN_S, expected_run_s

PREEMPTIBLE_FACTOR = 0.25
"""Factor on `overdue_factor` where jobs can be preempted: to make room costs little there."""

MOST_DEBT = 5.0
"""The budget is overdrawn by at most so many batches, so that the turn of the next job is bounded however
long those before it run. Measured with the other figures: docs/decisions."""


def overdue_at(job: Waiting, policy: Policy, *, any_preemptible: bool) -> float:
    """Return the wall time from which `job` is overdue."""
    factor = policy.overdue_factor * (PREEMPTIBLE_FACTOR if any_preemptible else 1.0)
    patience_s = min(factor * expected_run_s(job, policy), policy.overdue_max_s)
    return job.since + max(policy.overdue_s, patience_s)


def batch_gpu_s(policy: Policy, gpus: int) -> float:
    """Return the most that is put aside on a machine with so many GPUs in service, in GPU-seconds."""
    if policy.overdue_batch_gpu_s is not None:
        return policy.overdue_batch_gpu_s
    return policy.overdue_batch_s * gpus


def need_gpu_s(job: Waiting, policy: Policy) -> float:
    """Return the GPU time that a job is still expected to take."""
    remaining_s = expected_run_s(job, policy) - job.attained_gpu_s / max(1, job.gpus)
    return max(LEAST_RUN_S, remaining_s) * job.gpus


def price_gpu_s(job: Waiting, policy: Policy, gpus: int) -> float:
    """Return how much has to be put aside before `job` goes first: what it needs, at most a batch."""
    return min(batch_gpu_s(policy, gpus), need_gpu_s(job, policy))


def budget_gpu_s(carried: CarriedState, now: float, policy: Policy, gpus: int) -> float:
    """Return the GPU time that is put aside at `now` (wall time)."""
    passed_s = 0.0 if carried.owed_at is None else max(0.0, now - carried.owed_at)
    gained = policy.overdue_share * max(carried.granted_gpu_s, gpus * passed_s)
    return min(batch_gpu_s(policy, gpus), carried.owed_gpu_s + gained)


def budget_reached_at(
    carried: CarriedState, wanted_gpu_s: float, now: float, policy: Policy, gpus: int
) -> float:
    """Return the wall time at which `wanted_gpu_s` are put aside even if nothing starts; infinite for
    never."""
    missing = wanted_gpu_s - budget_gpu_s(carried, now, policy, gpus)
    return now + _filled_in_s(missing, policy, gpus)


def _filled_in_s(missing_gpu_s: float, policy: Policy, gpus: int) -> float:
    if missing_gpu_s <= 0:
        return 0.0
    rate = policy.overdue_share * gpus
    return missing_gpu_s / rate if rate > 0 else math.inf


def settled(
    carried: CarriedState, now: float, policy: Policy, gpus: int, *, spent_gpu_s: float = 0.0
) -> CarriedState:
    """Return `carried` with the budget worked out at `now`, less what is spent."""
    left = budget_gpu_s(carried, now, policy, gpus) - spent_gpu_s
    return msgspec.structs.replace(
        carried,
        owed_gpu_s=max(left, -MOST_DEBT * batch_gpu_s(policy, gpus)),
        owed_at=now,
        granted_gpu_s=0.0,
    )


def after_starts(
    carried: CarriedState, now: float, policy: Policy, gpus: int, *, granted_gpu_s: float, spent_gpu_s: float
) -> CarriedState:
    """Return the state after starts that were given `granted_gpu_s`, `spent_gpu_s` of it to overdue jobs that
    went first. While the budget is full and nothing is spent, the state stays as it is: there is nothing to
    store."""
    full = budget_gpu_s(carried, now, policy, gpus) >= batch_gpu_s(policy, gpus)
    if full and not spent_gpu_s and carried.owed_at is not None:
        return carried
    if carried.owed_at is None:
        carried = msgspec.structs.replace(carried, owed_at=now)
    carried = msgspec.structs.replace(carried, granted_gpu_s=carried.granted_gpu_s + granted_gpu_s)
    return settled(carried, now, policy, gpus, spent_gpu_s=spent_gpu_s) if spent_gpu_s else carried


def next_turn_at(inputs: PlanInput) -> float | None:
    """Return the wall time from which the next of the jobs that wait for GPUs will have waited for so long
    that it may go first, or has GPUs reserved; None: the policy knows no such time, or all have. Until then
    that changes no plan."""
    policy = inputs.policy
    jobs = [job for job in inputs.waiting if job.gpus]
    if policy.name == "firstfit" and policy.max_bypass_s > 0:
        times = [job.since + policy.max_bypass_s for job in jobs]
    elif policy.name in ("auto", "throughput"):
        soft = any(job.preemptible for job in inputs.waiting) or any(
            job.preemptible for job in inputs.running
        )
        times = [overdue_at(job, policy, any_preemptible=soft) for job in jobs]
    else:
        return None
    return min((at for at in times if at >= inputs.now), default=None)


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """Until `at` (wall time) others may start before the job, wherever it is in the queue; from then on it is
    next among the overdue jobs, after the `ahead` older ones that have not started by then. Urgent jobs still
    pass it."""

    at: float
    ahead: int


def turn(job: Waiting, inputs: PlanInput) -> Turn | None:
    """Return the bound on how long others may start before `job`; None where the policy has none.

    Under `auto` and `throughput`: the time at which it is overdue, and until enough is put aside for it and
    for the older jobs that are overdue by then. What others will have taken from the budget before it is
    overdue is not known, so the largest debt is assumed: the time comes closer, and moves away only when GPUs
    go out of service or older jobs come back. Under `firstfit`: `max_bypass_s` after its submission."""
    policy = inputs.policy
    gpus = sum(1 for gpu in inputs.gpus if gpu.schedulable)
    if policy.name == "firstfit" and policy.max_bypass_s > 0:
        return Turn(at=max(inputs.now, job.since + policy.max_bypass_s), ahead=0)
    if policy.name not in ("auto", "throughput") or not 0 < job.gpus <= gpus:
        return None
    soft = any(one.preemptible for one in inputs.waiting) or any(one.preemptible for one in inputs.running)
    begins = overdue_at(job, policy, any_preemptible=soft)
    budget = budget_gpu_s(inputs.carried, inputs.now, policy, gpus)
    if begins > inputs.now:
        budget = -MOST_DEBT * batch_gpu_s(policy, gpus)
    older = sorted(
        (overdue_at(one, policy, any_preemptible=soft), need_gpu_s(one, policy))
        for one in inputs.waiting
        if 0 < one.gpus <= gpus and (one.since, one.id) < (job.since, job.id)
    )
    return _turn(
        max(begins, inputs.now), price_gpu_s(job, policy, gpus) - budget, older, policy=policy, gpus=gpus
    )


def _turn(
    begins: float, missing_gpu_s: float, older: Sequence[tuple[float, float]], *, policy: Policy, gpus: int
) -> Turn | None:
    """Count in those of `older` (overdue from, need in GPU-seconds) that are overdue before the turn
    comes."""
    most = (1.0 + MOST_DEBT) * batch_gpu_s(policy, gpus)
    ahead, at = 0, begins + _filled_in_s(missing_gpu_s, policy, gpus)
    for overdue_from, need in older:
        if overdue_from > at:
            break
        ahead += 1
        missing_gpu_s += min(need, most)
        at = begins + _filled_in_s(missing_gpu_s, policy, gpus)
    return Turn(at=at, ahead=ahead) if at < math.inf else None
