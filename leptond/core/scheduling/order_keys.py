"""Order keys: a job's place in the queue as numbers that do not change while it waits.

The database keeps them in indexes, so that a plan reads only the first jobs of each order."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from leptond.core.scheduling.inputs import Policy, Running, Waiting

SHORT_STRETCH = 1.0
SOFT_STRETCH = 2.0
HARD_STRETCH = 1.0
ALONE_STRETCH = 30.0
"""Expected runs that are added to the submit time: of short jobs; of long preemptible jobs; of other long
jobs; of any job where none can be preempted. Found on traces: docs/decisions."""

LEAST_RUN_S = 60.0
"""Expected runs below this, in seconds, count as this: the cost of a start and a stop."""


class OrderKeys(NamedTuple):
    """A job's keys in the orders of the policies; ascending, times in wall seconds.

    `order_at`: effective submit time, i.e. the submit time less what its priority is worth. `lane`: 0 for
    short jobs, which go first, 1 for the others. `due_at`: key within the lane. `alone_at`: key where no job
    can be preempted; there are no lanes then. `short_s`: expected run, halved for each step of priority.

    `due_at` is the effective submit time plus a multiple of the expected run (in the long lane less for wide
    jobs, which are harder to place). So short jobs pass long ones, but no job submitted after that time does,
    and waits are bounded without ageing."""

    order_at: float
    lane: int
    due_at: float
    alone_at: float
    short_s: float


class OrderInputs(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of a job's order keys; fields as in
    :class:`leptond.core.scheduling.inputs.Waiting`."""

    priority: int
    gpus: int
    since: float
    preemptible: bool = False
    limit_s: float | None = None
    predicted_s: float | None = None
    attained_gpu_s: float = 0.0


def expected_run_s(job: Waiting | Running | OrderInputs, policy: Policy) -> float:
    """Return the expected run of a job in seconds: predicted from its history, else its time limit, else a
    constant."""
    if job.predicted_s is not None:
        return job.predicted_s if job.limit_s is None else min(job.predicted_s, job.limit_s)
    return job.limit_s if job.limit_s is not None else policy.unknown_run_s


def order_keys(job: Waiting | OrderInputs, policy: Policy) -> OrderKeys:
    """Compute the order keys of a pending job."""
    return _order_keys(job, job.gpus, job.attained_gpu_s, policy)


def running_order_keys(job: Running, attained_gpu_s: float, policy: Policy) -> OrderKeys:
    """Compute the order keys that a running job would have if it waited with `attained_gpu_s` of GPU time in
    all."""
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
