"""Cause of GPU time that a plan leaves idle, for the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leptond.core.accounting.ledger import IdleCause
from leptond.core.jobs.model import Reason
from leptond.core.scheduling.planner import Reservation, Wait, Waiting

_BLOCKED = frozenset({Reason.RESOURCES, Reason.PRIORITY, Reason.GPU_UNHEALTHY, Reason.DRAINING})
"""Reasons of jobs that would start if more or other GPUs were free. Jobs that limits, dependencies or holds
keep back do not count."""


def idle_cause(
    waiting: Sequence[Waiting],
    waits: Mapping[int, Wait],
    free: int,
    reservations: Sequence[Reservation] = (),
    refs: Mapping[int, str] | None = None,
) -> tuple[IdleCause, str]:
    """Classify the time of `free` GPUs by the jobs that do not start. `refs`: what people call the members of
    arrays, by id.

    Returns the cause and, where a job fits, what the GPUs are kept free for."""
    blocked = False
    keepers = [kept.id for kept in reservations if kept.gpus]
    for job in waiting:
        wait = waits.get(job.id)
        if not job.gpus or wait is None:
            continue
        if wait.reason is Reason.PAUSED and job.gpus <= free:
            return IdleCause.FITS, "the scheduler is paused"
        if wait.reason in _BLOCKED and job.gpus <= free:
            keeper = next((keeper for keeper in keepers if keeper != job.id), None)
            if keeper is not None:
                return IdleCause.FITS, f"kept for job {(refs or {}).get(keeper, keeper)}"
        blocked = blocked or wait.reason in _BLOCKED
    return (IdleCause.BLOCKED if blocked else IdleCause.NO_DEMAND), ""
