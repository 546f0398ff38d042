"""Who takes the GPUs of a running attempt when it has ended well. Named in advance, in a commit of its own,
so that the word to go need not wait for another: should the daemon die between that word and the claim, the
next one finds here what was meant (see reconcile.py)."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence

import msgspec

from leptond.core.jobs.model import Identity, Job, LeasedGpu
from leptond.core.scheduling import planner
from leptond.core.scheduling.inputs import CarriedState
from leptond.core.scheduling.standby import same_launch
from leptond.store.database import rows
from leptond.store.planning import snapshot
from leptond.store.planning.commit_plan import Context, Ready, at_its_gate, pending
from leptond.store.queue import attempts
from leptond.store.queue.attempts import Claim

FEW = 4
"""Most running jobs with which the transaction that ends one looks ahead itself."""

MOST = 16
"""Most running attempts that a successor is looked for."""


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """`ready` takes the GPUs `gpus` of the attempt `after`. `memory` is what the plan passes on; at `wake_at`
    (wall time) it might be another one."""

    after: str
    ready: Ready
    gpus: Sequence[LeasedGpu]
    carried: CarriedState
    wake_at: float | None


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that was named as the successor of one of the attempts `after`."""

    after: Sequence[str]
    job_id: int
    number: int
    attempt_id: str
    shim: Identity


class OutOfStep(Exception):
    """The database does not allow what a successor was told already."""


def plan(
    db: sqlite3.Connection,
    inputs: planner.PlanInput,
    ready: Mapping[int, Ready],
) -> list[Pair]:
    """For each running attempt that has GPUs of its own: the job on deck that would start on exactly these if
    it ended now, and nothing else would happen."""
    found: list[Pair] = []
    for job in inputs.running[:MOST] if ready else ():
        if not job.gpus or job.stopping or (job.share_bytes is not None and not job.exclusive):
            continue
        others = [one for one in inputs.running if one.id != job.id]
        made = planner.plan(msgspec.structs.replace(inputs, running=others), explain=False)
        next_up = ready.get(made.starts[0].id) if len(made.starts) == 1 and not made.preempts else None
        if (
            next_up is None
            or next_up.shim is None
            or (next_up.job.gpu_memory_bytes is not None and not next_up.job.exclusive)
        ):
            continue
        if set(made.starts[0].gpus) != set(job.gpus):
            continue
        row = db.execute(
            "SELECT id, gpus FROM attempts WHERE job_id = ? AND state = 'running'", (job.id,)
        ).fetchone()
        if row is not None:
            leased = [_whole(gpu) for gpu in rows.leased(row["gpus"])]
            found.append(
                Pair(after=row["id"], ready=next_up, gpus=leased, carried=made.carried, wake_at=made.wake_at)
            )
    return found


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes whose GPUs, by the attempt that has them, and how long that holds (wall time) if nothing
    happens and `sick` stays as it is. `whole`: there is nothing else to be done at this moment."""

    pairs: Mapping[str, Pair] = {}
    until: float = 0.0
    sick: Mapping[str, str] = {}
    whole: bool = False

    @property
    def names(self) -> dict[str, str]:
        """The ids of the successors."""
        return {after: pair.ready.attempt_id for after, pair in self.pairs.items()}


def look_ahead(
    db: sqlite3.Connection,
    context: Context,
    claims: Sequence[Claim],
    *,
    unhealthy: Mapping[str, str],
    cpu_slots: int,
    policy: planner.Policy,
) -> Outlook | None:
    """Names the successors anew in the transaction that has made `claims`, so that a job which ends at once
    has one. None where that is left to the next look: many run, or nobody is ready."""
    claimed = {claim.attempt.id for claim in claims}
    ready = {
        one.job.id: one
        for one in context.ready.values()
        if one.shim is not None and one.attempt_id not in claimed
    }
    if not ready:
        return None
    machine = snapshot.plan_machine(
        db, now=context.now, unhealthy=unhealthy, cpu_slots=cpu_slots, policy=policy
    )
    if len(machine.running) > FEW:
        return None
    inputs = snapshot.first_waiting(db, machine, boot=context.boot)
    pairs = plan(db, inputs, ready)
    now = {job.id: job for job in pending(db, {one.ready.job.id for one in pairs})}
    pairs = as_they_are(pairs, now)
    name(db, pairs)
    wake_s = snapshot.next_wake(db, now=context.now, boot=context.boot)
    until = min(
        context.now + wake_s if wake_s is not None else math.inf,
        *(one.wake_at for one in pairs if one.wake_at is not None),
        math.inf,
    )
    whole = len(pairs) == len(snapshot.sole_holders(inputs.running)) > 0 and _busy(inputs)
    return Outlook(pairs={one.after: one for one in pairs}, until=until, sick=unhealthy, whole=whole)


def _busy(inputs: planner.PlanInput) -> bool:
    """True if no GPU is free, no CPU job could start, and no job makes room or may have to."""
    free = inputs.free_capacity()
    return (
        not free.gpus
        and (free.slots <= 0 or all(job.gpus for job in inputs.waiting))
        and not any(job.stopping or job.preemptible for job in inputs.running)
    )


def as_they_are(pairs: Sequence[Pair], jobs: Mapping[int, Job]) -> list[Pair]:
    """Without those whose job no longer waits, or has been changed since it was prepared."""
    now = [(one, jobs.get(one.ready.job.id)) for one in pairs]
    return [one for one, job in now if job is not None and same_launch(one.ready.job, job)]


def _whole(gpu: LeasedGpu) -> LeasedGpu:
    return LeasedGpu(uuid=gpu.uuid, index=gpu.index, cpus=gpu.cpus)


def name(db: sqlite3.Connection, pairs: Sequence[Pair]) -> None:
    """These, and no others."""
    db.execute("DELETE FROM successors")
    for one in pairs:
        shim = one.ready.shim
        assert shim is not None
        db.execute(
            "INSERT OR REPLACE INTO successors"
            " (after, job_id, number, attempt_id, boot_id, shim_pid, shim_start)"
            " SELECT ?, ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM attempts WHERE id = ?)"
            " AND EXISTS (SELECT 1 FROM jobs WHERE id = ?)",
            (
                one.after,
                one.ready.job.id,
                one.ready.job.attempt + 1,
                one.ready.attempt_id,
                shim.boot_id,
                shim.pid,
                shim.start_ticks,
                one.after,
                one.ready.job.id,
            ),
        )


def named(db: sqlite3.Connection) -> list[Named]:
    """All of them; without those that have been claimed."""
    found: dict[str, Named] = {}
    for row in db.execute(
        "SELECT * FROM successors WHERE NOT EXISTS"
        " (SELECT 1 FROM attempts WHERE attempts.id = successors.attempt_id) ORDER BY job_id, after"
    ):
        before = found.get(row["attempt_id"])
        found[row["attempt_id"]] = Named(
            after=[*(before.after if before is not None else ()), row["after"]],
            job_id=row["job_id"],
            number=row["number"],
            attempt_id=row["attempt_id"],
            shim=Identity(boot_id=row["boot_id"], pid=row["shim_pid"], start_ticks=row["shim_start"]),
        )
    return list(found.values())


def claim(db: sqlite3.Connection, pair: Pair, context: Context) -> Claim:
    """The claim of an attempt that has been told to go, in the transaction that books the end of the one
    before it. Raises OutOfStep: then its process must not live on."""
    if pair.carried != snapshot.recall(db):
        snapshot.remember(db, pair.carried)
    gpus = [gpu.uuid for gpu in pair.gpus]
    assert pair.ready.shim is not None
    return _claim(db, pair.ready.job.id, pair.ready.attempt_id, pair.ready.shim, gpus, context)


def claim_late(db: sqlite3.Connection, one: Named, gpus: Sequence[str], context: Context) -> Claim:
    """The same after a restart, with the GPUs that it was told. Raises OutOfStep."""
    return _claim(db, one.job_id, one.attempt_id, one.shim, gpus, context)


def _claim(
    db: sqlite3.Connection,
    job_id: int,
    attempt_id: str,
    shim: Identity,
    gpus: Sequence[str],
    context: Context,
) -> Claim:
    claim = attempts.claim(
        db,
        planner.Start(id=job_id, gpus=gpus),
        attempt_id=attempt_id,
        now=context.now,
        boot=context.boot,
        boot_id=shim.boot_id,
        turn=context.turn,
    )
    if claim is None:
        raise OutOfStep(f"job {job_id} was started as the next one, and cannot be claimed")
    return at_its_gate(db, claim, shim, context)
