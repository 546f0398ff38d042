"""Attempts: claimed, started, stopped, finished. Each step is one transaction that the protocol of a
start or an end relies on."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from leptond.core.accounting.ledger import IdleCause, startable_at
from leptond.core.accounting.report_types import SampledUse
from leptond.core.admission.admission import wish_of
from leptond.core.jobs.model import (
    FINAL_STOPS,
    Attempt,
    ExitRecord,
    FailureClass,
    Identity,
    Job,
    LeasedGpu,
    State,
    StopReason,
)
from leptond.core.jobs.states import AttemptState, end_state, move
from leptond.core.outcome.classify import Verdict
from leptond.core.outcome.left_behind import left_behind
from leptond.core.outcome.retry import Decision, Past, Spent, decide, unless_unkillable
from leptond.core.scheduling.fair_share import UsageOwner
from leptond.core.scheduling.inputs import Preempt, Start
from leptond.core.scheduling.standby import Prepared, same_launch
from leptond.core.training.halving import spared_ms
from leptond.store.accounting import ledger
from leptond.store.database import events, rows
from leptond.store.database.conditions import ATTEMPT_ENDED, ATTEMPT_LIVES, IS_LIVE, IS_PENDING, IS_READY
from leptond.store.queue import fair_share, jobs, notes, order_keys
from leptond.store.queue import gpus as gpu_rows

LAST_END = ("class", "exit_code", "signal", "explanation")
"""Columns of a job that tell how its last attempt ended; empty while another one runs."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A job and the attempt that now holds GPUs for it."""

    job: Job
    attempt: Attempt


class PassTimes(msgspec.Struct, frozen=True, kw_only=True):
    """The times of the scheduling pass that claims, in wall seconds, for the ledger. `passed_at`: of the pass
    before it (None: it is the daemon's first); `woken_at`: of the commit that caused it. `idle_causes`: the
    causes of idle GPUs since the last note."""

    passed_at: float | None = None
    woken_at: float | None = None
    idle_causes: Sequence[tuple[float, IdleCause, str]] = ()


def claim(
    db: sqlite3.Connection,
    start: Start,
    *,
    attempt_id: str,
    now: float,
    boot: float,
    boot_id: str,
    pass_times: PassTimes | None = None,
    prepared: Prepared | None = None,
    has_started: bool = False,
) -> Claim | None:
    """Give GPUs to a job: the attempt, its leases and the event, in one transaction. None when the
    world has moved on since the plan was made (a cancel, a hold, a drain, or another attempt of it that may
    start without the daemon); then nothing of it changes. The attempt is the `prepared` one, where that is
    still right for the job, else a new one with `attempt_id`. `has_started`: it is a fact, which only another
    holder of its GPUs speaks against."""
    times = pass_times or PassTimes()
    first = pass_times is not None and times.passed_at is None
    ledger.note_idle_causes(db, times.idle_causes)
    row = _named(db, start, attempt_id) if has_started else _ready(db, start, now=now, boot=boot)
    if row is None:
        return None
    job = rows.readable_job(row)
    if job is None:
        jobs.set_aside(db, start.id, now)
        return None
    if prepared is not None and same_launch(prepared.job, job):
        attempt_id = prepared.attempt_id
    share = None if row["exclusive"] else row["gpu_memory_bytes"]
    free = _free_gpus(db, start.gpus, share, in_service=not has_started)
    if free is None:
        return None
    gpus, released = free
    if has_started:  # any other job that is named is not ready
        db.execute("DELETE FROM successors WHERE job_id = ?", (start.id,))
    number = row["attempt"] + 1
    ready = max(row["submitted_at"], row["begin_at"] or 0.0, row["backoff_at"] or 0.0)
    seen = {"passed_at": times.passed_at, "woken_at": times.woken_at}
    attempt = _NEW(
        id=attempt_id,
        job_id=start.id,
        number=number,
        gpus=gpus,
        n_gpus=len(gpus),
        claimed_at=now,
        claimed_boot=boot,
        boot_id=boot_id,
        price_micros=ledger.price_micros(db, start.gpus) if gpus else None,
    )
    db.execute(
        "INSERT INTO attempts (id, job_id, number, state, gpus, n_gpus, claimed_at, claimed_boot, boot_id,"
        f" startable_at, gap_cause, price_micros)"
        f" VALUES (?, ?, ?, '{AttemptState.STARTING}', ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            attempt_id,
            start.id,
            number,
            msgspec.json.encode(gpus).decode(),
            len(gpus),
            now,
            boot,
            boot_id,
            startable_at(ready=ready, released=released, now=now, **seen),
            "the daemon was down" if first else None,
            attempt.price_micros,
        ),
    )
    if gpus:
        db.executemany(
            "INSERT INTO leases (gpu_uuid, attempt_id, since, memory_bytes) VALUES (?, ?, ?, ?)",
            [(uuid, attempt_id, now, share) for uuid in start.gpus],
        )
    move(State.PENDING, State.STARTING)
    cleared = dict.fromkeys(("backoff_at", "backoff_boot", *LAST_END))
    jobs.touch(db, start.id, {"state": State.STARTING, "attempt": number, **cleared})
    leased = [{"uuid": one.uuid, "index": one.index} for one in gpus]
    data = {"from": State.PENDING, "to": State.STARTING, "gpus": leased}
    events.append(db, now, "job.state", job=start.id, attempt=number, data=data)
    return Claim(job=_claimed(job), attempt=attempt)


def _claimed(job: Job) -> Job:
    """Return a pending job as its row is once it is claimed."""
    return replace(
        job,
        state=State.STARTING,
        attempt=job.attempt + 1,
        backoff_at=None,
        backoff_boot=None,
        class_=None,
        exit_code=None,
        signal=None,
        explanation=None,
        version=job.version + 1,
    )


_NEW = partial(
    Attempt,
    state=AttemptState.STARTING,
    shim_pid=None,
    shim_start=None,
    pid=None,
    started_at=None,
    deadline_at=None,
    ended_at=None,
    run_s=None,
    stop_reason=None,
    stop_by=None,
    stop_grace_s=None,
    stop_at=None,
    exit_code=None,
    signal=None,
    class_=None,
    rule=None,
    evidence=[],
    explanation=None,
    retry=None,
    gpu_ms=0,
    max_rss_bytes=None,
    peak_mem_bytes=None,
    cpu_s=None,
    log_bytes=0,
    log_dropped_bytes=0,
)
"""An attempt as its row is once it is claimed (a test compares)."""


def _named(db: sqlite3.Connection, start: Start, attempt_id: str) -> sqlite3.Row | None:
    """Return the row of a pending job whose attempt may start without the daemon."""
    row: sqlite3.Row | None = db.execute(
        f"SELECT * FROM jobs WHERE id = ? AND {IS_PENDING}"
        " AND EXISTS (SELECT 1 FROM successors WHERE job_id = jobs.id AND attempt_id = ?)",
        (start.id, attempt_id),
    ).fetchone()
    return row if row is not None and row["gpus"] == len(start.gpus) else None


def _ready(db: sqlite3.Connection, start: Start, *, now: float, boot: float) -> sqlite3.Row | None:
    """Return the row of a job that may still start, and with as many GPUs as were planned."""
    row: sqlite3.Row | None = db.execute(
        f"SELECT * FROM jobs WHERE id = ? AND {IS_READY}"
        " AND (backoff_boot IS NULL OR backoff_boot <= ?)"
        " AND (begin_at IS NULL OR begin_at <= ?)"
        " AND NOT EXISTS (SELECT 1 FROM successors WHERE job_id = jobs.id)",
        (start.id, boot, now),
    ).fetchone()
    return row if row is not None and row["gpus"] == len(start.gpus) else None


def _free_gpus(
    db: sqlite3.Connection, uuids: Sequence[str], share: int | None, *, in_service: bool
) -> tuple[list[LeasedGpu], float | None] | None:
    """Return these GPUs for a lease of `share` bytes of each (None: all of it), and when the last of them was
    released; None if one of them is not free for that or, with `in_service`, not in service."""
    gpus, released = [], None
    for uuid in uuids:
        found = db.execute(
            "SELECT uuid, idx, cpus, memory_bytes, released_at FROM gpus"
            " WHERE uuid = ? AND (present = 1 AND drained = 0 OR NOT ?)"
            " AND NOT EXISTS (SELECT 1 FROM leases WHERE gpu_uuid = uuid"
            "  AND (leases.memory_bytes IS NULL OR ? IS NULL))"
            " AND coalesce(?, 0) + (SELECT coalesce(sum(leases.memory_bytes), 0) FROM leases"
            "  WHERE gpu_uuid = uuid) <= memory_bytes",
            (uuid, in_service, share, share),
        ).fetchone()
        if found is None:
            return None
        one = LeasedGpu(uuid=found["uuid"], index=found["idx"], cpus=found["cpus"])
        if share is not None:
            one = replace(one, memory_bytes=share, total_bytes=found["memory_bytes"])
        gpus.append(one)
        released = max(released or 0.0, found["released_at"] or 0.0) or None
    return gpus, released


def started(
    db: sqlite3.Connection, attempt_id: str, *, shim: Identity, now: float, deadline_at: float | None
) -> bool:
    """Store the shim of the attempt; only after this commit may its gate be opened. False when it
    has been asked to stop meanwhile: the gate stays shut."""
    attempt = get(db, attempt_id)
    if attempt.state is not AttemptState.STARTING:
        db.execute(
            "UPDATE attempts SET shim_pid = ?, shim_start = ? WHERE id = ?",
            (shim.pid, shim.start_ticks, attempt_id),
        )
        return False
    _runs(db, attempt, shim=shim, now=now, deadline_at=deadline_at)
    return True


def started_at_gate(db: sqlite3.Connection, claim: Claim, shim: Identity, *, now: float) -> Claim:
    """Store the shim that waits at the gate of an attempt claimed in this transaction, which counts as
    running from then on."""
    limit_s = claim.job.time_limit_s
    deadline_at = now + limit_s if limit_s is not None else None
    return Claim(job=claim.job, attempt=_runs(db, claim.attempt, shim=shim, now=now, deadline_at=deadline_at))


def _runs(
    db: sqlite3.Connection, attempt: Attempt, *, shim: Identity, now: float, deadline_at: float | None
) -> Attempt:
    """Store the shim of a starting attempt, which runs from now on; return the attempt as it is then."""
    db.execute(
        f"UPDATE attempts SET state = '{AttemptState.RUNNING}', shim_pid = ?, shim_start = ?, started_at = ?,"
        " deadline_at = ? WHERE id = ?",
        (shim.pid, shim.start_ticks, now, deadline_at, attempt.id),
    )
    move(State.STARTING, State.RUNNING)
    changes = {"state": State.RUNNING, "started_at": now, "deadline_at": deadline_at}
    jobs.touch(db, attempt.job_id, changes)
    data = {"from": State.STARTING, "to": State.RUNNING}
    events.append(db, now, "job.state", job=attempt.job_id, attempt=attempt.number, data=data)
    return replace(
        attempt,
        state=AttemptState.RUNNING,
        shim_pid=shim.pid,
        shim_start=shim.start_ticks,
        started_at=now,
        deadline_at=deadline_at,
    )


def set_pid(
    db: sqlite3.Connection,
    attempt_id: str,
    pid: int,
    *,
    deadline_at: float | None = None,
    start: str | None = None,
) -> None:
    """The pid of the user's command, how it started, and its limit as counted from its real begin, for people
    to look at."""
    changed = db.execute(
        "UPDATE attempts SET pid = ?, start = ?, deadline_at = coalesce(?, deadline_at)"
        f" WHERE id = ? AND {ATTEMPT_LIVES} RETURNING job_id",
        (pid, start, deadline_at, attempt_id),
    ).fetchone()
    if changed is not None and deadline_at is not None:
        db.execute("UPDATE jobs SET deadline_at = ? WHERE id = ?", (deadline_at, changed["job_id"]))


def overran(db: sqlite3.Connection, attempt_id: str, *, now: float) -> None:
    """Show that an attempt reached its limit and is in its grace. The shim does the stopping."""
    attempt = get(db, attempt_id)
    if attempt.state is not AttemptState.RUNNING:
        return
    job = rows.job(db.execute("SELECT * FROM jobs WHERE id = ?", (attempt.job_id,)).fetchone())
    jobs.stop(db, job, StopReason.TIMEOUT, by="leptond", grace_s=job.spec.grace_s or 0.0, now=now)


def get(db: sqlite3.Connection, attempt_id: str) -> Attempt:
    """The attempt with this id. Raises LookupError."""
    row = db.execute("SELECT * FROM attempts WHERE id = ?", (attempt_id,)).fetchone()
    if row is None:
        raise LookupError(f"no attempt {attempt_id}")
    return rows.attempt(row)


def pid_of(db: sqlite3.Connection, attempt_id: str) -> int | None:
    """Return the pid of an attempt's command, while it is known."""
    row = db.execute("SELECT pid FROM attempts WHERE id = ?", (attempt_id,)).fetchone()
    return row["pid"] if row is not None else None


def has_ended(db: sqlite3.Connection, job_id: int, number: int) -> bool:
    """Return True if an attempt of a job has ended, or is gone with it."""
    row = db.execute(
        "SELECT state FROM attempts WHERE job_id = ? AND number = ?", (job_id, number)
    ).fetchone()
    return row is None or row["state"] == AttemptState.ENDED


def ids_like(db: sqlite3.Connection, beginning: str) -> list[str]:
    """The ids that begin with `beginning` (lower-case hexadecimal)."""
    found = db.execute("SELECT id FROM attempts WHERE id >= ? AND id < ?", (beginning, beginning + "g"))
    return [row["id"] for row in found]


def live(db: sqlite3.Connection) -> list[Claim]:
    """Every attempt that has not ended (index jobs_live)."""
    found = []
    for row in db.execute(f"SELECT * FROM jobs INDEXED BY jobs_live WHERE {IS_LIVE} ORDER BY id").fetchall():
        attempt = db.execute(
            f"SELECT * FROM attempts WHERE job_id = ? AND {ATTEMPT_LIVES}", (row["id"],)
        ).fetchone()
        if attempt is not None:
            found.append(Claim(job=rows.job(row), attempt=rows.attempt(attempt)))
    return found


def earlier(db: sqlite3.Connection, job_id: int, number: int) -> list[Past]:
    """The ended attempts of a job before `number`, oldest first; those apart that only made room."""
    if number <= 1:
        return []
    return [
        Past(
            cause=FailureClass(row["class"]),
            exit_code=row["exit_code"],
            signal=row["signal"],
            run_s=row["run_s"] or 0.0,
            failure_fingerprint=row["signature"],
        )
        for row in db.execute(
            "SELECT class, exit_code, signal, run_s, signature FROM attempts"
            f" WHERE job_id = ? AND number < ? AND {ATTEMPT_ENDED} AND class <> ? ORDER BY number",
            (job_id, number, FailureClass.PREEMPTED),
        )
    ]


def finish(
    db: sqlite3.Connection,
    attempt_id: str,
    *,
    verdict: Verdict,
    record: ExitRecord | None,
    now: float,
    boot: float,
    boot_id: str,
    roll: float,
    uses: Sequence[SampledUse] = (),
    attempt: Attempt | None = None,
) -> Decision | None:
    """End an attempt: release its GPUs, charge its GPU time with what was sampled of it last (`uses`), and
    send the job to its end or back into the queue. None when it had been finished before; then nothing
    changes. `attempt`: its row, if that has been read in this transaction."""
    if attempt is None:
        attempt = get(db, attempt_id)
    if attempt.state is AttemptState.ENDED:
        return None
    job = rows.job(db.execute("SELECT * FROM jobs WHERE id = ?", (attempt.job_id,)).fetchone())
    decision = _decide(db, job, attempt, verdict, record, roll)
    # boot time runs evenly; across a reboot only the wall clocks are left to compare
    held_s = boot - attempt.claimed_boot if attempt.boot_id == boot_id else now - attempt.claimed_at
    gpu_ms = round(max(0.0, held_s) * 1000 * attempt.gpu_parts)
    if attempt.n_gpus:
        owner = UsageOwner(job.user, job.project, job.queue)
        fair_share.book(db, owner, gpus=attempt.gpu_parts, held_s=held_s, now=now)

    ended_at = record.ended_at if record is not None and record.ended_at else now
    ended = _record_end(db, attempt, verdict, record, decision, ended_at=ended_at, gpu_ms=gpu_ms)
    note = left_behind(record)
    if note is not None:
        notes.add(db, job.id, attempt.number, [note], now=now)
    _charge(db, job, ended, uses)
    if record is not None and record.unkillable:
        for gpu in attempt.gpus:
            # what holds it cannot be killed: no other job gets it until a person has looked
            reason = f"{record.unkillable} unkillable processes of job {job.ref}"
            gpu_rows.drain(db, gpu.uuid, reason, "leptond", now)
    changes: dict[str, Any] = {
        "gpu_ms": job.gpu_ms + gpu_ms,
        "exit_code": record.exit_code if record is not None else None,
        "signal": record.signal if record is not None else None,
        "class": verdict.cause,
        "explanation": verdict.explanation,
        "deadline_at": None,
    }
    if verdict.cause is FailureClass.PREEMPTED and record is not None:
        cost_s = eviction_cost_s(ended, record)
        if cost_s is not None:
            order_keys.note_eviction(db, job.id, cost_s, now)
    if verdict.cause is FailureClass.OK:
        order_keys.note_run(db, job.id, record.run_s if record is not None else 0.0, now)
    if decision.again:
        _again(db, job, attempt, verdict, decision, changes, now=now, boot=boot)
        order_keys.place(db, job.id, was=job.priority)
    else:
        jobs.end(db, job, end_state(verdict.cause), now, changes)
    return decision


def _decide(
    db: sqlite3.Connection,
    job: Job,
    attempt: Attempt,
    verdict: Verdict,
    record: ExitRecord | None,
    roll: float,
) -> Decision:
    exit_code = record.exit_code if record is not None else None
    signal = record.signal if record is not None else None
    run_s = record.run_s if record is not None else 0.0
    decision = decide(
        verdict.cause,
        exit_code=exit_code,
        signal=signal,
        run_s=run_s,
        wish=wish_of(job.spec, job.retries),
        spent=Spent(
            user=job.spent_user, infra=job.spent_infra, snooze=job.spent_snooze, requeue=job.spent_requeue
        ),
        past=earlier(db, job.id, attempt.number),
        stop_reason=attempt.stop_reason,
        roll=roll,
        failure_fingerprint=verdict.failure_fingerprint,
        is_own=verdict.is_own,
    )
    return unless_unkillable(decision, record.unkillable if record is not None else 0)


def _record_end(
    db: sqlite3.Connection,
    attempt: Attempt,
    verdict: Verdict,
    record: ExitRecord | None,
    decision: Decision,
    *,
    ended_at: float,
    gpu_ms: int,
) -> Attempt:
    """Release the GPUs of an attempt, and write its end into its row. Return the attempt with its times."""
    if attempt.gpus:
        uuids = [gpu.uuid for gpu in attempt.gpus]
        marks = ", ".join("?" * len(uuids))
        db.execute(f"UPDATE gpus SET released_at = ? WHERE uuid IN ({marks})", (ended_at, *uuids))
        db.execute("DELETE FROM leases WHERE attempt_id = ?", (attempt.id,))
    started_at, stop_at = attempt.started_at, attempt.stop_at
    if record is not None:
        started_at = record.started_at if record.started_at is not None else started_at
        stop_at = _stopped_at(record)
    db.execute(
        f"UPDATE attempts SET state = '{AttemptState.ENDED}', ended_at = ?, run_s = ?, exit_code = ?,"
        " signal = ?, class = ?, rule = ?, evidence = ?, explanation = ?, retry = ?, gpu_ms = ?,"
        " max_rss_bytes = ?, peak_mem_bytes = ?, cpu_s = ?,"
        " log_bytes = ?, log_dropped_bytes = ?, stop_reason = coalesce(?, nullif(stop_reason, ?)),"
        " signature = ?, retries_saved = ?, pid = coalesce(?, pid), start = coalesce(?, start),"
        " started_at = ?, stop_at = ? WHERE id = ?",
        (
            ended_at,
            record.run_s if record is not None else 0.0,
            record.exit_code if record is not None else None,
            record.signal if record is not None else None,
            verdict.cause,
            verdict.rule,
            msgspec.json.encode(verdict.evidence).decode(),
            verdict.explanation,
            decision.why,
            gpu_ms,
            record.max_rss_bytes if record is not None else None,
            (record.peak_mem_bytes or None) if record is not None else None,
            record.cpu_s if record is not None else None,
            record.log_bytes if record is not None else 0,
            record.log_dropped_bytes if record is not None else 0,
            _stop_reason(attempt, record),
            # a limit that only the daemon saw pass, while the shim saw the command end in time
            StopReason.TIMEOUT if record is not None and record.run_s else None,
            verdict.failure_fingerprint,
            decision.saved,
            record.main_pid if record is not None else None,
            record.start if record is not None else None,
            started_at,
            stop_at,
            attempt.id,
        ),
    )
    if verdict.cause is FailureClass.STOPPED_EARLY:
        db.execute("UPDATE attempts SET spared_ms = ? WHERE id = ?", (spared_ms(attempt), attempt.id))
    return replace(
        attempt, state=AttemptState.ENDED, ended_at=ended_at, started_at=started_at, stop_at=stop_at
    )


def eviction_cost_s(attempt: Attempt, record: ExitRecord) -> float | None:
    """Return the cost of a preemption, in seconds of this attempt: its start-up, the work since its last
    checkpoint, and the time that it took to leave. A job that left within its grace has saved; of one that
    was killed only the checkpoint that it announced counts. None when its command never ran."""
    if attempt.started_at is None or attempt.ended_at is None:
        return None
    asked = min(attempt.stop_at if attempt.stop_at is not None else attempt.ended_at, attempt.ended_at)
    first = attempt.first_progress_at if attempt.first_progress_at is not None else attempt.started_at
    saved = attempt.checkpoint_at if attempt.checkpoint_at is not None else first
    lost_s = asked - min(max(saved, first), asked) if record.killed else 0.0
    return max(0.0, first - attempt.started_at) + lost_s + max(0.0, attempt.ended_at - asked)


def preempt(db: sqlite3.Connection, wanted: Preempt, *, now: float) -> bool:
    """Ask a running job, durably, to make room; the scheduler delivers it. False when the world has moved
    on since the plan was made, and then nothing changes."""
    row = db.execute(
        f"SELECT * FROM jobs WHERE id = ? AND state = '{State.RUNNING}' AND preemptible = 1", (wanted.id,)
    ).fetchone()
    waits = db.execute(
        f"SELECT 1 FROM jobs WHERE id = ? AND {IS_PENDING} AND held = 0", (wanted.for_id,)
    ).fetchone()
    if row is None or waits is None:
        return False
    job = rows.job(row)
    grace_s = job.spec.grace_s or 0.0
    jobs.stop(db, job, StopReason.PREEMPT, by=f"job {wanted.for_id}", grace_s=grace_s, now=now)
    return True


def _stop_reason(attempt: Attempt, record: ExitRecord | None) -> str | None:
    """Return the reason that the shim was given; but a cancel, or its sweep's stop, that came while the job
    made room has the last word."""
    if record is not None and record.stop_reason == StopReason.PREEMPT:
        return attempt.stop_reason if attempt.stop_reason in FINAL_STOPS else record.stop_reason
    return record.stop_reason if record is not None else None


def _stopped_at(record: ExitRecord) -> float | None:
    """When the shim sent the stop signal; it knows best, also of the daemon's own requests."""
    if record.started_at is None or record.stop_sent_after_s is None:
        return None
    return record.started_at + record.stop_sent_after_s


def _charge(db: sqlite3.Connection, job: Job, attempt: Attempt, uses: Sequence[SampledUse]) -> None:
    """Charge the attempt to its owner: from the start of its command to the end of its last process; of a
    GPU that it shares, the part of the memory that it asked for."""
    if not attempt.n_gpus:
        return
    ledger.add_use(db, uses)
    if attempt.started_at is None or attempt.ended_at is None:
        return
    price = attempt.price_micros / attempt.n_gpus if attempt.price_micros is not None else None
    whole_ms = round(max(0.0, attempt.ended_at - attempt.started_at) * 1000) * attempt.n_gpus
    gpu_ms = round(whole_ms * _part_of_gpus(db, job, attempt))
    ledger.book(
        db,
        user=job.user,
        project=job.project,
        gpu_ms=gpu_ms,
        price=price,
        at=attempt.ended_at,
        idle_ms=ledger.idle_ms(db, attempt.id),
    )


def _part_of_gpus(db: sqlite3.Connection, job: Job, attempt: Attempt) -> float:
    if job.exclusive or job.gpu_memory_bytes is None:
        return 1.0
    marks = ", ".join("?" * attempt.n_gpus)
    uuids = [gpu.uuid for gpu in attempt.gpus]
    there = db.execute(f"SELECT sum(memory_bytes) FROM gpus WHERE uuid IN ({marks})", uuids).fetchone()[0]
    return min(1.0, job.gpu_memory_bytes * attempt.n_gpus / there) if there else 1.0


def _again(
    db: sqlite3.Connection,
    job: Job,
    attempt: Attempt,
    verdict: Verdict,
    decision: Decision,
    changes: dict[str, Any],
    *,
    now: float,
    boot: float,
) -> None:
    move(job.state, State.PENDING)
    assert decision.budget is not None
    column = f"spent_{decision.budget}"
    changes |= {"state": State.PENDING, column: getattr(job, column) + 1}
    if decision.delay_s > 0:
        changes |= {"backoff_at": now + decision.delay_s, "backoff_boot": boot + decision.delay_s}
    if decision.hold:
        changes |= {"held": 1, "hold_reason": decision.why}
    jobs.touch(db, job.id, changes)
    data = {
        "from": job.state,
        "to": State.PENDING,
        "class": verdict.cause,
        "explanation": verdict.explanation,
        "retry": decision.why,
        "delay_s": round(decision.delay_s, 3),
        "held": decision.hold,
    }
    events.append(db, now, "job.requeued", job=job.id, attempt=attempt.number, data=data)
