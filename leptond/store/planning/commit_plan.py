"""What a turn of the scheduler changes, in one transaction: who makes room, who is claimed, and, of those who
stand on deck, who starts."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec
import structlog
from msgspec.structs import replace

from leptond.core.jobs.model import Identity, Job
from leptond.core.scheduling.planner import Policy, Start
from leptond.core.scheduling.standby import same_launch
from leptond.store.database import rows
from leptond.store.planning import snapshot
from leptond.store.planning.job_cache import pending_rows
from leptond.store.queue import attempts
from leptond.store.queue.attempts import Claim, Turn

log = structlog.get_logger("leptond.store")

T = TypeVar("T")


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The next attempt of a pending job at its gate, or on its way there (`shim` is None then): `job` as it
    was when that was prepared."""

    job: Job
    attempt_id: str
    shim: Identity | None


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn needs to know beside the database: the time, who is on deck (by job), where the next
    attempt's id comes from, and for the ledger what the turn follows."""

    now: float
    boot: float
    boot_id: str
    ready: Mapping[int, Ready] = {}
    new_id: Callable[[], str] = lambda: secrets.token_hex(16)
    turn: Turn = Turn()


def carry_out(db: sqlite3.Connection, decided: snapshot.Decided, context: Context) -> list[Claim]:
    """Does what was decided, but for those starts and preemptions that the world has moved on from. A claim
    whose attempt has its shim stored may have its GO once this is durable."""
    if decided.plan.carried != decided.recalled:
        snapshot.remember(db, decided.plan.carried)
    for one in decided.plan.preempts:
        attempts.preempt(db, one, now=context.now)
    claims: list[Claim] = []
    turn = context.turn
    for start in decided.plan.starts:
        claim = _claim(db, start, context, turn)
        if claim is not None:
            claims.append(claim)
        turn = replace(turn, idle_cause=())
    return claims


def _claim(db: sqlite3.Connection, start: Start, context: Context, turn: Turn) -> Claim | None:
    ready = context.ready.get(start.id)
    if ready is not None:
        row = db.execute("SELECT * FROM jobs WHERE id = ?", (start.id,)).fetchone()
        if row is None or not same_launch(ready.job, rows.job(row)):
            ready = None
    claim = attempts.claim(
        db,
        start,
        attempt_id=context.new_id() if ready is None else ready.attempt_id,
        now=context.now,
        boot=context.boot,
        boot_id=context.boot_id,
        turn=turn,
    )
    if claim is None or ready is None or ready.shim is None:
        return claim
    return at_its_gate(db, claim, ready.shim, context)


def at_its_gate(db: sqlite3.Connection, claim: Claim, shim: Identity, context: Context) -> Claim:
    """The claim with who stands at its gate stored: it counts as running."""
    limit_s = claim.job.time_limit_s
    deadline_at = context.now + limit_s if limit_s is not None else None
    attempts.started(db, claim.attempt.id, shim=shim, now=context.now, deadline_at=deadline_at)
    return Claim(job=claim.job, attempt=attempts.get(db, claim.attempt.id))


def follow_up(
    db: sqlite3.Connection,
    context: Context,
    *,
    unhealthy: Mapping[str, str],
    cpu_slots: int,
    policy: Policy,
) -> list[Claim]:
    """In the transaction that has freed GPUs: who gets them."""

    def work() -> list[Claim]:
        decided = snapshot.decide(
            db, now=context.now, boot=context.boot, unhealthy=unhealthy, cpu_slots=cpu_slots, policy=policy
        )
        return carry_out(db, decided, context)

    return apart(db, work) or []


def apart(db: sqlite3.Connection, work: Callable[[], T]) -> T | None:
    """What `work()` returns; None when it fails: then nothing of it stays, and the rest of the transaction
    does. It is for what an ordinary turn would do otherwise."""
    db.execute("SAVEPOINT apart")
    try:
        result: T | None = work()
    except Exception:
        if not db.in_transaction:
            raise  # SQLite has undone the whole transaction itself
        log.exception("a part of a hand-over is left to the next look")
        db.execute("ROLLBACK TO apart")
        result = None
    db.execute("RELEASE apart")
    return result


def pending(db: sqlite3.Connection, ids: Iterable[int]) -> list[Job]:
    """Those of these jobs that wait."""
    return [rows.job(row) for row in pending_rows(db, ids)]
