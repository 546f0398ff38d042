"""What the queue is like for GPUs that a plan leaves free: the reason why they are free, for the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leptond.core.accounting.ledger import IdleCause
from leptond.core.jobs.model import Reason
from leptond.core.scheduling.planner import Reservation, Wait, Waiting

_BLOCKED = frozenset({Reason.RESOURCES, Reason.PRIORITY, Reason.GPU_UNHEALTHY, Reason.DRAINING})
"""Reasons of jobs that would start if more or other GPUs were free. A job that its own owner's limits,
a dependency or a hold keep back is not eligible."""


def idle_cause(
    waiting: Sequence[Waiting],
    waits: Mapping[int, Wait],
    free: int,
    reservations: Sequence[Reservation] = (),
) -> tuple[IdleCause, str]:
    """Of the jobs that do not start while `free` GPUs stay free: does one fit (then the cause names what the
    GPUs are kept for), does none, or does no eligible job need any?"""
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
                return IdleCause.FITS, f"kept for job {keeper}"
        blocked = blocked or wait.reason in _BLOCKED
    return (IdleCause.BLOCKED if blocked else IdleCause.NO_DEMAND), ""
