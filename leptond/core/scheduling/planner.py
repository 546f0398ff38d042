"""Who starts now, on which GPUs, who makes room, and why the others wait: values in, decisions out.

The values are in :mod:`leptond.core.scheduling.inputs`; the moves that all policies share in
:mod:`leptond.core.scheduling.plan_builder`; the policies in :mod:`leptond.core.scheduling.policies`, one a
file; the sentences in :mod:`leptond.core.scheduling.wait_reasons`."""

from __future__ import annotations

from collections.abc import Sequence

from leptond.core.scheduling.inputs import (
    CarriedState,
    FreeCapacity,
    Plan,
    PlanInput,
    Policy,
    Preempt,
    Reservation,
    Running,
    Start,
    Wait,
    Waiting,
)
from leptond.core.scheduling.plan_builder import PlanBuilder
from leptond.core.scheduling.policies import POLICIES
from leptond.core.scheduling.wait_reasons import wait_reasons

__all__ = [
    "CarriedState",
    "FreeCapacity",
    "Plan",
    "PlanInput",
    "Policy",
    "Preempt",
    "Reservation",
    "Running",
    "Start",
    "Wait",
    "Waiting",
    "plan",
]


def plan(inputs: PlanInput, *, explain: bool | None = True) -> Plan:
    """The starts and preemptions that are right at `inputs.now`. Without `explain` the reasons of those that
    wait are left out, which saves most of the work in a deep queue; with None there are only those of jobs
    that need GPUs, and only if GPUs stay free that nobody holds: what the ledger asks for."""
    builder = PlanBuilder(inputs)
    if not inputs.policy.paused:
        builder.start_cpu_jobs()
        POLICIES[inputs.policy.name](builder)
        builder.start_gpu_shares()
        builder.reclaim_lent_gpus()
    explained: Sequence[Waiting] = inputs.waiting if explain else ()
    if explain is None and builder.free:
        explained = [job for job in inputs.waiting if job.gpus]
    return Plan(
        starts=builder.starts,
        preempts=builder.preempts,
        reservations=builder.reservations(),
        carried=builder.carried,
        wake_at=builder.wake_at,
        waits=wait_reasons(builder, explained) if explained else {},
    )
