"""A job's place in the queue, as numbers that do not change while it waits: so the database keeps them in
indexes, and a plan need not look at the whole queue."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from leptond.core.scheduling.inputs import Policy, Running, Waiting

SHORT_STRETCH = 1.0
SOFT_STRETCH = 2.0
HARD_STRETCH = 1.0
ALONE_STRETCH = 30.0
"""How many expected runs behind its submission a job stands: a short one; a long one that can be preempted;
a long one that cannot; any where no job can be preempted. Found on traces: docs/decisions."""

LEAST_RUN_S = 60.0
"""Expected runs under this count as this: what a run costs in start and stop."""


class OrderKeys(NamedTuple):
    """A job's places in the orders of the policies.

    `order_at`: when the job was submitted, set back by what its priority is worth. `lane`: 0 for short
    jobs, which go first, 1 for the rest. `due_at`: the place inside the lane. `alone_at`: the place where
    no job can be preempted; there are no lanes then. `short_s`: the expected run, halved by each step of
    priority.

    A job stands as if it had been submitted a multiple of its expected run later (in its lane, a wide one
    less, for it is harder to place): short ones pass long ones, but nothing that is submitted after that
    time does, and so the wait is bounded without any ageing."""

    order_at: float
    lane: int
    due_at: float
    alone_at: float
    short_s: float


class OrderInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What the rank of a job depends on; see Waiting."""

    priority: int
    gpus: int
    since: float
    preemptible: bool = False
    limit_s: float | None = None
    predicted_s: float | None = None
    attained_gpu_s: float = 0.0


def expected_run_s(job: Waiting | Running | OrderInputs, policy: Policy) -> float:
    """How long the job is expected to run: as its history tells, else as long as it may."""
    if job.predicted_s is not None:
        return job.predicted_s if job.limit_s is None else min(job.predicted_s, job.limit_s)
    return job.limit_s if job.limit_s is not None else policy.unknown_run_s


def order_keys(job: Waiting | OrderInputs, policy: Policy) -> OrderKeys:
    """The rank of a pending job."""
    return _order_keys(job, job.gpus, job.attained_gpu_s, policy)


def running_order_keys(job: Running, attained_gpu_s: float, policy: Policy) -> OrderKeys:
    """The rank that a running job would have if it waited, after so much GPU-time in all."""
    return _order_keys(job, len(job.gpus), attained_gpu_s, policy)


def _order_keys(
    job: Waiting | Running | OrderInputs, gpus: int, attained_gpu_s: float, policy: Policy
) -> OrderKeys:
    run_s = max(expected_run_s(job, policy), LEAST_RUN_S)
    order_at = job.since - job.priority * policy.priority_step_s
    if job.preemptible:
        lane = int(attained_gpu_s >= policy.class_gpu_s)
    else:
        lane = int(job.limit_s is None or job.limit_s * gpus > policy.class_gpu_s)
    if not lane:
        back_s = SHORT_STRETCH * run_s
    else:
        back_s = (SOFT_STRETCH if job.preemptible else HARD_STRETCH) * run_s / max(gpus, 1) ** 0.5
    return OrderKeys(
        order_at,
        lane,
        order_at + back_s,
        order_at + ALONE_STRETCH * run_s,
        expected_run_s(job, policy) * 2.0**-job.priority,
    )
