"""The plan becomes rows, in one transaction: which jobs make room, which are claimed, and, of the claimed
ones that were prepared, which start at once. Before it: snapshot.py makes the plan. After it: the supervisor
opens the gates of what was claimed (scheduling/supervisor.py)."""

from __future__ import annotations

import itertools
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
import structlog
from msgspec.structs import replace

from leptond.core.jobs.model import Identity, Job
from leptond.core.scheduling.planner import Policy, Start
from leptond.core.scheduling.standby import Prepared
from leptond.store.database import rows
from leptond.store.planning import snapshot
from leptond.store.planning.job_cache import pending_rows
from leptond.store.queue import attempts
from leptond.store.queue.attempts import Claim, PassTimes

log = structlog.get_logger("leptond.store")

T = TypeVar("T")


class ClaimContext(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that claims need beside the database: the time (`now`, `boot`) and the boot, the prepared
    attempts by job id, the source of ids for other attempts, and the times of the pass for the ledger."""

    now: float
    boot: float
    boot_id: str
    prepared: Mapping[int, Prepared] = {}
    new_id: Callable[[], str] = lambda: secrets.token_hex(16)
    pass_times: PassTimes = PassTimes()


def carry_out(db: sqlite3.Connection, decided: snapshot.Decided, context: ClaimContext) -> list[Claim]:
    """Preempt and claim what was decided, except what the world has moved on from meanwhile. The gate of a
    claimed attempt whose shim is stored may be opened once this is durable. A job that may start without the
    daemon cannot be claimed: from it on, the starts are left to the next pass, so that none overtakes it."""
    starts = _before_named(db, decided.plan.starts)
    if decided.plan.carried != decided.recalled and len(starts) == len(decided.plan.starts):
        snapshot.remember(db, decided.plan.carried)
    for one in decided.plan.preempts:
        attempts.preempt(db, one, now=context.now)
    claims: list[Claim] = []
    times = context.pass_times
    for start in starts:
        claim = _claim(db, start, context, times)
        if claim is not None:
            claims.append(claim)
        times = replace(times, idle_causes=())  # noted once, with the first claim
    return claims


def _before_named(db: sqlite3.Connection, starts: Sequence[Start]) -> Sequence[Start]:
    """Return the starts up to the first of a job that is named as a successor."""
    named = {row["job_id"] for row in db.execute("SELECT job_id FROM successors")}
    return list(itertools.takewhile(lambda start: start.id not in named, starts))


def _claim(db: sqlite3.Connection, start: Start, context: ClaimContext, times: PassTimes) -> Claim | None:
    prepared = context.prepared.get(start.id)
    claim = attempts.claim(
        db,
        start,
        attempt_id=context.new_id(),
        now=context.now,
        boot=context.boot,
        boot_id=context.boot_id,
        pass_times=times,
        prepared=prepared,
    )
    if claim is None or prepared is None or prepared.shim is None:
        return claim
    if claim.attempt.id != prepared.attempt_id:
        return claim  # what was prepared is not right any more
    return started_at_gate(db, claim, prepared.shim, context)


def started_at_gate(db: sqlite3.Connection, claim: Claim, shim: Identity, context: ClaimContext) -> Claim:
    """Store the shim that waits at the gate of a claimed attempt, which counts as running from then on."""
    return attempts.started_at_gate(db, claim, shim, now=context.now)


def claim_freed(
    db: sqlite3.Connection,
    context: ClaimContext,
    *,
    unhealthy: Mapping[str, str],
    cpu_slots: int,
    policy: Policy,
) -> list[Claim]:
    """Plan and claim in the transaction that has freed GPUs. Should it fail, it is left to the next pass."""

    def work() -> list[Claim]:
        decided = snapshot.decide(
            db, now=context.now, boot=context.boot, unhealthy=unhealthy, cpu_slots=cpu_slots, policy=policy
        )
        return carry_out(db, decided, context)

    return in_savepoint(db, work) or []


def in_savepoint(db: sqlite3.Connection, work: Callable[[], T]) -> T | None:
    """Return what `work()` returns; None if it fails: then nothing of it stays, and the rest of the
    transaction does. It is for what an ordinary pass would do otherwise."""
    db.execute("SAVEPOINT apart")
    try:
        result: T | None = work()
    except Exception:
        if not db.in_transaction:
            raise  # SQLite has undone the whole transaction itself
        log.exception("handover.deferred")
        db.execute("ROLLBACK TO apart")
        result = None
    db.execute("RELEASE apart")
    return result


def pending(db: sqlite3.Connection, ids: Iterable[int]) -> list[Job]:
    """Return those of these jobs that wait."""
    found = (rows.readable_job(row) for row in pending_rows(db, ids))
    return [job for job in found if job is not None]
