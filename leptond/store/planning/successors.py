"""Successors: the prepared attempts that may start without the daemon, as slots come free (table
``successors``). They are named here in a commit of its own before their shims are told so: should the daemon
die, the next one finds here what may have started (recovery/reconcile.py).

Which they are is decided in core/scheduling/successors.py; their shims are told by
scheduling/successions.py."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection, Mapping, Sequence

import msgspec

from leptond.core.jobs.model import Identity, Job
from leptond.core.scheduling import overdue, planner
from leptond.core.scheduling import successors as choice
from leptond.core.scheduling.handover import Line, Successor
from leptond.core.scheduling.planner import Policy
from leptond.core.scheduling.standby import Prepared, same_launch
from leptond.store.database import rows
from leptond.store.database.conditions import ATTEMPT_RUNS, IS_PENDING
from leptond.store.planning import snapshot
from leptond.store.planning.commit_plan import ClaimContext, started_at_gate
from leptond.store.queue import attempts
from leptond.store.queue.attempts import Claim


class NamedSuccessor(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that may have started without the daemon."""

    job_id: int
    number: int
    attempt_id: str
    shim: Identity


class OutOfStep(Exception):
    """The database does not allow the claim of an attempt that has started already."""


def choose(
    db: sqlite3.Connection, inputs: planner.PlanInput, prepared: Mapping[int, Prepared], *, most: int
) -> list[Line]:
    """Return the lines of successors, at most `most` of these in all, among the prepared attempts (by job id)
    that are at their gates."""
    at_gate = {job_id: one for job_id, one in prepared.items() if one.shim is not None}
    if not at_gate or not inputs.running:
        return []
    found = []
    usable = sum(1 for gpu in inputs.gpus if gpu.schedulable)
    for line in choice.choose(inputs, _expected_runs(db, at_gate), most=most):
        slots = {}
        for job_id in line.running:
            row = db.execute(
                f"SELECT id, gpus FROM attempts WHERE job_id = ? AND {ATTEMPT_RUNS}", (job_id,)
            ).fetchone()
            if row is not None:
                slots[row["id"]] = [
                    msgspec.structs.replace(gpu, memory_bytes=None, total_bytes=None)
                    for gpu in rows.leased(row["gpus"])
                ]
        if slots:
            successors = [
                Successor(prepared=at_gate[job_id], granted_gpu_s=granted, usable_gpus=usable)
                for job_id, granted in zip(line.waiting, line.granted_gpu_s, strict=True)
            ]
            until = line.wake_at if line.wake_at is not None else math.inf
            found.append(Line(slots=slots, successors=successors, alike=line.alike, until=until))
    return found


def _expected_runs(db: sqlite3.Connection, ids: Collection[int]) -> dict[int, float | None]:
    """Return how long these jobs are expected to run, by what jobs like them did last; None: not known."""
    marks = ", ".join("?" * len(ids))
    found = db.execute(
        "SELECT jobs.id, runs.last_s FROM jobs LEFT JOIN runs ON runs.user = jobs.user"
        f" AND runs.signature = jobs.signature AND runs.gpus = jobs.gpus WHERE jobs.id IN ({marks})",
        list(ids),
    )
    return {row["id"]: row["last_s"] for row in found}


def still_valid(lines: Sequence[Line], jobs: Mapping[int, Job]) -> list[Line]:
    """Return the lines as far as their jobs still wait (are among `jobs`) and are as they were when they were
    prepared."""
    found = []
    for line in lines:
        count = 0
        for one in line.successors:
            job = jobs.get(one.prepared.job.id)
            if job is None or not same_launch(one.prepared.job, job):
                break
            count += 1
        if count:
            found.append(msgspec.structs.replace(line, successors=line.successors[:count]))
    return found


def name(
    db: sqlite3.Connection,
    successors: Sequence[tuple[Successor, Sequence[Sequence[str]]]],
    gone: Collection[str],
) -> set[str]:
    """Name these successors, each with the slots (UUIDs of GPUs) that it may take, after those of `gone`
    (attempt ids) are named no more. Return the attempt ids of those whose jobs still wait."""
    unname(db, gone)
    named = set()
    for one, slots in successors:
        prepared = one.prepared
        assert prepared.shim is not None
        row = db.execute(
            f"SELECT * FROM jobs WHERE id = ? AND {IS_PENDING} AND held = 0", (prepared.job.id,)
        ).fetchone()
        job = rows.readable_job(row) if row is not None else None
        if job is None or not same_launch(prepared.job, job):
            continue
        db.execute(
            "INSERT INTO successors (attempt_id, job_id, number, boot_id, shim_pid, shim_start, slots)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                prepared.attempt_id,
                prepared.job.id,
                prepared.job.attempt + 1,
                prepared.shim.boot_id,
                prepared.shim.pid,
                prepared.shim.start_ticks,
                msgspec.json.encode(slots).decode(),
            ),
        )
        named.add(prepared.attempt_id)
    return named


def unname(db: sqlite3.Connection, attempt_ids: Collection[str]) -> None:
    """Name these attempts no more: they have not started, and will not without GO."""
    db.executemany("DELETE FROM successors WHERE attempt_id = ?", [(one,) for one in attempt_ids])


def named(db: sqlite3.Connection) -> list[NamedSuccessor]:
    """Return all successors that are named."""
    return [
        NamedSuccessor(
            job_id=row["job_id"],
            number=row["number"],
            attempt_id=row["attempt_id"],
            shim=Identity(boot_id=row["boot_id"], pid=row["shim_pid"], start_ticks=row["shim_start"]),
        )
        for row in db.execute("SELECT * FROM successors ORDER BY job_id")
    ]


def count_start(db: sqlite3.Connection, successor: Successor, policy: Policy, *, now: float) -> None:
    """Count the GPU time that a start gives out, as its plan would have."""
    if successor.granted_gpu_s:
        before = snapshot.recall(db)
        carried = overdue.after_starts(
            before,
            now,
            policy,
            successor.usable_gpus,
            granted_gpu_s=successor.granted_gpu_s,
            spent_gpu_s=0.0,
        )
        if carried != before:
            snapshot.remember(db, carried)


def claim(db: sqlite3.Connection, named: NamedSuccessor, gpus: Sequence[str], context: ClaimContext) -> Claim:
    """Claim an attempt that has started on these GPUs (UUIDs), after the end of the one before it is
    recorded. Raises OutOfStep: then its process must not live on."""
    claim = attempts.claim(
        db,
        planner.Start(id=named.job_id, gpus=gpus),
        attempt_id=named.attempt_id,
        now=context.now,
        boot=context.boot,
        boot_id=named.shim.boot_id,
        pass_times=context.pass_times,
        has_started=True,
    )
    if claim is None:
        raise OutOfStep(f"job {named.job_id} was started as the next one, and cannot be claimed")
    return started_at_gate(db, claim, named.shim, context)
