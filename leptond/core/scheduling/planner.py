"""The planner: which jobs start now, on which GPUs, which are preempted, and why the others wait.

A pure function. Its values are in :mod:`leptond.core.scheduling.inputs`, the moves that all policies share in
:mod:`leptond.core.scheduling.plan_builder`, the policies in :mod:`leptond.core.scheduling.policies`, the
sentences in :mod:`leptond.core.scheduling.wait_reasons`."""

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
    """Decide the starts and preemptions that are due at `inputs.now`.

    `explain`: True gives a reason for every job that waits; False gives none, which saves most of the work in
    a deep queue; None gives those of jobs that need GPUs, and only if GPUs stay free, as the ledger needs
    them."""
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
        waits=wait_reasons(builder, explained, inputs.refs) if explained else {},
    )
