"""Successors: the prepared attempts that take the GPUs of running ones when those have ended well. They are
named in advance, in a commit of its own, so that opening the gate need not wait for another: should the
daemon die between that and the claim, the next one finds here what was meant (recovery/reconcile.py).

Chosen by a scheduling pass (scheduling/pass_reader.py) and by the transaction of a hand-over itself
(:func:`look_ahead`); used by scheduling/handover.py."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from leptond.core.jobs.model import Identity, Job, LeasedGpu
from leptond.core.scheduling import planner
from leptond.core.scheduling.handover import Outlook, Successor
from leptond.core.scheduling.standby import Prepared, same_launch
from leptond.store.database import rows
from leptond.store.database.conditions import ATTEMPT_RUNS
from leptond.store.planning import snapshot
from leptond.store.planning.commit_plan import ClaimContext, pending, started_at_gate
from leptond.store.queue import attempts
from leptond.store.queue.attempts import Claim

FEW = 4
"""Most running jobs with which the transaction that ends one looks ahead itself."""

MOST = 16
"""Most running attempts that a successor is chosen for."""


class NamedSuccessor(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that was named as the successor of one of the attempts `after`."""

    after: Sequence[str]
    job_id: int
    number: int
    attempt_id: str
    shim: Identity


class OutOfStep(Exception):
    """The database does not allow the claim of an attempt whose gate is open already."""


def choose(
    db: sqlite3.Connection, inputs: planner.PlanInput, prepared: Mapping[int, Prepared]
) -> list[Successor]:
    """Return, for each running attempt that has GPUs of its own, the prepared attempt that would start on
    exactly these if it ended now and nothing else happened. `prepared`: by job id."""
    found: list[Successor] = []
    for job in inputs.running[:MOST] if prepared else ():
        if not job.gpus or job.stopping or (job.share_bytes is not None and not job.exclusive):
            continue
        others = [one for one in inputs.running if one.id != job.id]
        made = planner.plan(msgspec.structs.replace(inputs, running=others), explain=False)
        alone = len(made.starts) == 1 and not made.preempts
        next_up = prepared.get(made.starts[0].id) if alone else None
        if (
            next_up is None
            or next_up.shim is None
            or (next_up.job.gpu_memory_bytes is not None and not next_up.job.exclusive)
        ):
            continue
        if set(made.starts[0].gpus) != set(job.gpus):
            continue
        row = db.execute(
            f"SELECT id, gpus FROM attempts WHERE job_id = ? AND {ATTEMPT_RUNS}", (job.id,)
        ).fetchone()
        if row is not None:
            found.append(
                Successor(
                    after=row["id"],
                    prepared=next_up,
                    gpus=[_whole(gpu) for gpu in rows.leased(row["gpus"])],
                    carried=made.carried,
                    wake_at=made.wake_at,
                )
            )
    return found


def covers_all(
    outlook: Outlook, running: Sequence[planner.Running], prepared: Mapping[int, Prepared]
) -> bool:
    """Return True if every running attempt that can have a successor has one that is still prepared: then
    more prepared attempts change nothing."""
    return len(outlook.successors) == len(snapshot.sole_holders(running[:MOST])) and all(
        prepared.get(one.prepared.job.id) == one.prepared for one in outlook.successors.values()
    )


def look_ahead(
    db: sqlite3.Connection,
    context: ClaimContext,
    claims: Sequence[Claim],
    *,
    version: int,
    unhealthy: Mapping[str, str],
    cpu_slots: int,
    policy: planner.Policy,
) -> Outlook | None:
    """Name the successors anew in the transaction that has made `claims`, so that a job which ends at once
    has one. `version`: of the store once this is durable. None where that is left to the next pass: many
    jobs run, or none is prepared."""
    claimed = {claim.attempt.id for claim in claims}
    prepared = {
        one.job.id: one
        for one in context.prepared.values()
        if one.shim is not None and one.attempt_id not in claimed
    }
    if not prepared:
        return None
    machine = snapshot.plan_machine(
        db,
        now=context.now,
        boot=context.boot,
        unhealthy=unhealthy,
        cpu_slots=cpu_slots,
        policy=policy,
    )
    if len(machine.running) > FEW:
        return None
    inputs = snapshot.first_waiting(db, machine, boot=context.boot)
    chosen = choose(db, inputs, prepared)
    found = still_valid(chosen, {job.id: job for job in pending(db, {one.prepared.job.id for one in chosen})})
    replace_all(db, list(found.values()))
    wake_s = snapshot.next_wake(db, now=context.now, boot=context.boot)
    valid_until = min(
        context.now + wake_s if wake_s is not None else math.inf,
        *(one.wake_at for one in found.values() if one.wake_at is not None),
        math.inf,
    )
    return Outlook(
        version=version,
        successors=found,
        valid_until=valid_until,
        unhealthy=unhealthy,
        complete=len(found) == len(snapshot.sole_holders(inputs.running)) > 0 and _busy(inputs),
    )


def _busy(inputs: planner.PlanInput) -> bool:
    """Return True if no GPU is free, no CPU job could start, and no job makes room or may have to."""
    free = inputs.free_capacity()
    return (
        not free.gpus
        and (free.slots <= 0 or all(job.gpus for job in inputs.waiting))
        and not any(job.stopping or job.preemptible for job in inputs.running)
    )


def still_valid(chosen: Sequence[Successor], jobs: Mapping[int, Job]) -> dict[str, Successor]:
    """Return the successors, by the attempt that they follow, without those whose job no longer waits (is not
    among `jobs`) or has been changed since it was prepared."""
    now = [(one, jobs.get(one.prepared.job.id)) for one in chosen]
    return {one.after: one for one, job in now if job is not None and same_launch(one.prepared.job, job)}


def _whole(gpu: LeasedGpu) -> LeasedGpu:
    return LeasedGpu(uuid=gpu.uuid, index=gpu.index, cpus=gpu.cpus)


def replace_all(db: sqlite3.Connection, successors: Sequence[Successor]) -> None:
    """Name these successors, and no others."""
    db.execute("DELETE FROM successors")
    for one in successors:
        shim = one.prepared.shim
        assert shim is not None
        db.execute(
            "INSERT OR REPLACE INTO successors"
            " (after, job_id, number, attempt_id, boot_id, shim_pid, shim_start)"
            " SELECT ?, ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM attempts WHERE id = ?)"
            " AND EXISTS (SELECT 1 FROM jobs WHERE id = ?)",
            (
                one.after,
                one.prepared.job.id,
                one.prepared.job.attempt + 1,
                one.prepared.attempt_id,
                shim.boot_id,
                shim.pid,
                shim.start_ticks,
                one.after,
                one.prepared.job.id,
            ),
        )


def named(db: sqlite3.Connection) -> list[NamedSuccessor]:
    """Return all successors that were named, without those that have been claimed."""
    found: dict[str, NamedSuccessor] = {}
    for row in db.execute(
        "SELECT * FROM successors WHERE NOT EXISTS"
        " (SELECT 1 FROM attempts WHERE attempts.id = successors.attempt_id) ORDER BY job_id, after"
    ):
        before = found.get(row["attempt_id"])
        found[row["attempt_id"]] = NamedSuccessor(
            after=[*(before.after if before is not None else ()), row["after"]],
            job_id=row["job_id"],
            number=row["number"],
            attempt_id=row["attempt_id"],
            shim=Identity(boot_id=row["boot_id"], pid=row["shim_pid"], start_ticks=row["shim_start"]),
        )
    return list(found.values())


def claim(db: sqlite3.Connection, successor: Successor, context: ClaimContext) -> Claim:
    """Claim an attempt whose gate is open already, in the transaction that records the end of the one before
    it. Raises OutOfStep: then its process must not live on."""
    if successor.carried != snapshot.recall(db):
        snapshot.remember(db, successor.carried)
    prepared = successor.prepared
    assert prepared.shim is not None
    gpus = [gpu.uuid for gpu in successor.gpus]
    return _claim(db, prepared.job.id, prepared.attempt_id, prepared.shim, gpus, context)


def claim_late(
    db: sqlite3.Connection, named: NamedSuccessor, gpus: Sequence[str], context: ClaimContext
) -> Claim:
    """Claim after a restart an attempt whose gate was opened with these GPUs (UUIDs). Raises OutOfStep."""
    return _claim(db, named.job_id, named.attempt_id, named.shim, gpus, context)


def _claim(
    db: sqlite3.Connection,
    job_id: int,
    attempt_id: str,
    shim: Identity,
    gpus: Sequence[str],
    context: ClaimContext,
) -> Claim:
    claim = attempts.claim(
        db,
        planner.Start(id=job_id, gpus=gpus),
        attempt_id=attempt_id,
        now=context.now,
        boot=context.boot,
        boot_id=shim.boot_id,
        pass_times=context.pass_times,
    )
    if claim is None:
        raise OutOfStep(f"job {job_id} was started as the next one, and cannot be claimed")
    return started_at_gate(db, claim, shim, context)
