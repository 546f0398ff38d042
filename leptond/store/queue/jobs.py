"""Jobs from their submission to what people do with them: all that does not need a process."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from leptond.base.errors import Conflict, Invalid, TooMany, WrongState
from leptond.core.admission.admission import Admitted, Script, check_warning
from leptond.core.jobs import fields
from leptond.core.jobs.missing import no_such_job
from leptond.core.jobs.model import (
    FINAL_STOPS,
    LIVE,
    TERMINAL,
    FailureClass,
    Job,
    State,
    StopReason,
)
from leptond.core.jobs.states import AttemptState, move
from leptond.core.scheduling.fair_share import Limits
from leptond.store.database import events, rows
from leptond.store.database.conditions import ATTEMPT_LIVES
from leptond.store.queue import (
    compact_arrays,
    dependencies,
    fair_share,
    intake,
    order_keys,
    queues,
    retention,
)
from leptond.store.queue import submit as submits
from leptond.store.queue.intake import Accepted, Submit
from leptond.store.queue.submit import Stored

_NO_CAPS = Limits()
_SUMMARY = ", ".join(fields.names(summary=True))
_ONLY_PENDING = frozenset(fields.names(editable="pending"))
_NOT_COPIED = {one.name: one.default for one in fields.FIELDS if one.asked and not one.copied}


def submit(db: sqlite3.Connection, admitted: Sequence[Admitted], **more: Any) -> Accepted:
    """Store the jobs of all specs, or none, as :func:`leptond.store.queue.intake.submit`."""
    return intake.submit(db, Submit(admitted=admitted, **more))


def find(db: sqlite3.Connection, ref: str) -> Job:
    """The job that `ref` (``47`` or ``47_3``) names. Raises NotFound."""
    array, _, member = ref.partition("_")
    if member:
        row = db.execute(
            "SELECT * FROM jobs WHERE array_id = ? AND array_index = ?", (int(array), int(member))
        ).fetchone()
    else:
        row = db.execute("SELECT * FROM jobs WHERE id = ?", (int(array),)).fetchone()
    if row is not None:
        return rows.shown_job(row)
    compact = compact_arrays.find(db, ref)
    if compact is None:
        raise no_such_job(ref)
    return compact


def ended_or_gone(db: sqlite3.Connection, job_ids: Sequence[int]) -> list[int]:
    """Return those of these jobs that have ended, or that are there no more (primary key)."""
    found: list[int] = []
    for start in range(0, len(job_ids), 500):
        some = job_ids[start : start + 500]
        ended = {
            row["id"]: row["ended"]
            for row in db.execute(
                "SELECT id, ended_at IS NOT NULL AS ended FROM jobs"
                f" WHERE id IN ({', '.join('?' * len(some))})",
                some,
            )
        }
        for job_id in some:
            compact = job_id not in ended and compact_arrays.at(db, job_id) is not None
            if not compact and ended.get(job_id, True):
                found.append(job_id)
    return found


def _must_be_whole(job: Job) -> None:
    """Raises WrongState for a job of whose row only a part can be read."""
    if (job.explanation or "").startswith(rows.UNREADABLE):
        raise WrongState(
            f"job {job.ref}: {job.explanation}",
            hint=f"leptonctl purge {job.ref} forgets it; then submit it anew",
        )


def find_for_change(db: sqlite3.Connection, ref: str, now: float) -> Job:
    """The job that `ref` names, about to be changed: a compact member of an array gets its own row first.
    Raises NotFound."""
    compact_arrays.expand_one(db, ref, now)
    return find(db, ref)


def summary(db: sqlite3.Connection, job_id: int) -> dict[str, Any] | None:
    """A job as the payload of a webhook has it; None when it is forgotten."""
    row = db.execute(
        f"SELECT {_SUMMARY}, gpu_ms / 1000.0 AS gpu_seconds, array_id, array_index FROM jobs WHERE id = ?",
        (job_id,),
    ).fetchone()
    if row is None:
        return None
    found = dict(row)
    del found["array_id"], found["array_index"]
    return {**found, "ref": rows.ref(row)}


def counts(db: sqlite3.Connection) -> dict[State, int]:
    """Count the jobs in each state."""
    return {State(row["state"]): row["n"] for row in db.execute("SELECT state, n FROM job_counts")}


def touch(db: sqlite3.Connection, job_id: int, changes: dict[str, Any]) -> None:
    """Set columns of one job and raise its version. A new state must have been checked by `move`; the
    database checks it again."""
    assignments = ", ".join(f"{column} = :{column}" for column in changes)
    db.execute(
        f"UPDATE jobs SET {assignments}, version = version + 1 WHERE id = :id", {**changes, "id": job_id}
    )


def set_aside(db: sqlite3.Connection, job_id: int, now: float) -> None:
    """Hold a job whose row cannot be read: it can never start as it is, and must stop no other."""
    touch(db, job_id, {"held": 1})
    events.append(db, now, "job.held", job=job_id, data={"by": "leptond", "why": rows.UNREADABLE})


def forget_submitters(db: sqlite3.Connection) -> int:
    """Forget the uids of the submitters of all jobs, and return how many of these are not over."""
    for table in ("jobs", "folds"):
        db.execute(f"UPDATE {table} SET uid = NULL WHERE uid IS NOT NULL")
    found: int = db.execute("SELECT COUNT(*) FROM jobs WHERE ended_at IS NULL").fetchone()[0]
    return found


def end(db: sqlite3.Connection, job: Job, state: State, now: float, changes: dict[str, Any]) -> None:
    """Bring a job to a terminal state and settle the dependencies of the jobs that wait for it."""
    move(job.state, state)
    # a job that is cancelled while it waits for a retry has no exit code of its own
    left = dict.fromkeys(("backoff_at", "backoff_boot", "never_cause", "exit_code", "signal"))
    touch(db, job.id, {"state": state, "ended_at": now, **left, **changes})
    events.append(
        db,
        now,
        "job.state",
        job=job.id,
        attempt=job.attempt or None,
        data={
            "from": job.state,
            "to": state,
            "class": changes.get("class"),
            "exit_code": changes.get("exit_code"),
            "explanation": changes.get("explanation"),
        },
    )
    ended = dependencies.Ended(
        first=job.id,
        last=job.id,
        array_id=job.array_id,
        state=state,
        early=changes.get("class") == FailureClass.STOPPED_EARLY,
        root_id=job.root_id,
    )
    dependencies.resolve(db, [ended], now)


def cancel(
    db: sqlite3.Connection, ref: str, *, by: str, grace_s: float | None, reason: str | None, now: float
) -> Job:
    """Cancel a job: at once while it waits, else by asking its attempt to stop. Asking twice is no
    error, and a second time may shorten the grace. Raises NotFound, WrongState."""
    job = find_for_change(db, ref, now)
    why = f"cancelled by {by}" + (f": {reason}" if reason else "")
    if job.state in TERMINAL:
        raise WrongState(f"job {job.ref} has already ended: {job.state}")
    if job.state is State.PENDING:
        end(db, job, State.CANCELLED, now, {"class": "cancelled", "explanation": why})
        return find(db, ref)
    stop(
        db,
        job,
        StopReason.CANCEL,
        by=by,
        grace_s=grace_s if grace_s is not None else (job.spec.grace_s or 0.0),
        now=now,
    )
    return find(db, ref)


def stop(
    db: sqlite3.Connection,
    job: Job,
    reason: StopReason,
    *,
    by: str,
    grace_s: float,
    now: float,
    note: str | None = None,
) -> None:
    """Note durably that the live attempt of `job` has to stop; the scheduler carries it out. A cancel, or
    its sweep's stop, takes the place of what leptond asked for before: it must be delivered, and the job not
    tried again. What the attempt is found to have died of is the shim's to say, which knows what it sent
    first. `note` is the reason for people."""
    first = "?" if reason in FINAL_STOPS else "coalesce(stop_reason, ?)"
    db.execute(
        f"UPDATE attempts SET state = '{AttemptState.STOPPING}', stop_reason = {first},"
        " stop_by = coalesce(stop_by, ?), stop_at = coalesce(stop_at, ?), stop_note = coalesce(?, stop_note),"
        f" stop_grace_s = min(coalesce(stop_grace_s, ?), ?) WHERE job_id = ? AND {ATTEMPT_LIVES}",
        (reason, by, now, note, grace_s, grace_s, job.id),
    )
    if job.state is not State.STOPPING:
        move(job.state, State.STOPPING)
        touch(db, job.id, {"state": State.STOPPING})
        data = {"from": job.state, "to": State.STOPPING, "reason": reason, "by": by}
        events.append(db, now, "job.state", job=job.id, attempt=job.attempt, data=data)


def hold(db: sqlite3.Connection, ref: str, *, by: str, now: float) -> Job:
    """Keep a pending job from starting. Raises NotFound, WrongState."""
    job = _pending(db, ref, "held", now)
    if not job.held:
        touch(db, job.id, {"held": 1, "hold_reason": f"held by {by}"})
        events.append(db, now, "job.held", job=job.id, data={"by": by})
    return find(db, ref)


def release(db: sqlite3.Connection, ref: str, *, by: str, now: float) -> Job:
    """Undo :func:`hold`. Raises NotFound, WrongState."""
    job = _pending(db, ref, "released", now)
    if job.held:
        # whoever looked at it gives it a fresh budget against the machine's failures
        touch(db, job.id, {"held": 0, "hold_reason": None, "spent_requeue": 0})
        events.append(db, now, "job.released", job=job.id, data={"by": by})
    return find(db, ref)


def retry(
    db: sqlite3.Connection,
    ref: str,
    *,
    user: str,
    uid: int | None = None,
    now: float,
    max_pending: int,
    caps: Limits = _NO_CAPS,
) -> tuple[Stored, bool]:
    """Run a job again: a finished one as a copy that shares its checkpoints (a finished job itself never
    runs again), one in back-off without waiting longer. The copy is the owner's, whoever `user` with this
    `uid` is. The flag says whether a copy was made. Raises NotFound, WrongState, TooMany, QueueClosed."""
    job = find_for_change(db, ref, now)
    _must_be_whole(job)
    if job.state is State.PENDING and job.backoff_boot is not None:
        touch(db, job.id, {"backoff_at": None, "backoff_boot": None})
        events.append(db, now, "job.edited", job=job.id, data={"backoff": "skipped", "by": user})
        return Stored(id=job.id, array_id=job.array_id, name=job.name), False
    if job.state not in TERMINAL:
        raise WrongState(
            f"job {job.ref} is {job.state}", hint="only a finished job, or one in back-off, can be retried"
        )
    root = job.checkpoint_id
    live = db.execute(
        "SELECT id FROM jobs WHERE (root_id = ? OR id = ?) AND ended_at IS NULL", (root, root)
    ).fetchone()
    if live is not None:
        raise WrongState(
            f"job {live['id']} is a retry of it and has not ended",
            hint="two copies would share one checkpoint",
        )
    spec = msgspec.structs.replace(job.current_spec(), **_NOT_COPIED)
    if counts(db)[State.PENDING] >= max_pending:
        raise TooMany("the queue is full", headers={"Retry-After": "60"})
    queues.find(db, job.queue).must_be_open()
    projects = {job.project: 1} if job.project is not None else {}
    fair_share.check_pending(db, caps, user=job.user, asked=1, projects=projects)
    script = Script(sha256=job.script_sha256) if job.script_sha256 is not None else None
    one = Admitted(spec=spec, name=job.name, script=script, sources=job.sources)
    owner = job.uid if job.uid is not None or user != job.user else uid
    (stored,) = submits.insert(db, [one], user=job.user, uid=owner, now=now, retry_of=job.id, root=root)
    dependencies.revive(db, stored.id, root, now)
    return stored, True


def edit(
    db: sqlite3.Connection,
    ref: str,
    changes: dict[str, Any],
    *,
    by: str,
    if_version: int | None,
    now: float,
    by_admin: bool = False,
) -> Job:
    """Set fields of a job that are editable in its state (:data:`leptond.core.jobs.fields.FIELDS`). Raises
    NotFound, WrongState, Conflict, and what the queue says to the job."""
    job = find_for_change(db, ref, now)
    _must_be_whole(job)
    if if_version is not None and if_version != job.version:
        raise Conflict(
            f"job {job.ref} is at version {job.version}, not {if_version}", hint="read it again, then edit"
        )
    if job.state in TERMINAL:
        raise WrongState(f"job {job.ref} has already ended: {job.state}")
    only_pending = _ONLY_PENDING & changes.keys()
    if only_pending and job.state is not State.PENDING:
        raise WrongState(
            f"{min(only_pending)} can be changed only while the job is pending; it is {job.state}"
        )
    if not changes:
        return job
    check_changes(db, job, changes, by_admin=by_admin)
    touch(db, job.id, rows.changed_columns(changes))
    order_keys.place(db, job.id, was=job.priority if "begin_at" not in changes else None)
    events.append(db, now, "job.edited", job=job.id, data={**changes, "by": by})
    return find(db, ref)


def check_changes(db: sqlite3.Connection, job: Job, changes: dict[str, Any], *, by_admin: bool) -> None:
    """Raise what speaks against new values of a job that has not ended."""
    if "time_limit_s" in changes:
        try:
            check_warning(job.spec.warn_signal, changes["time_limit_s"])
        except Invalid as refusal:
            raise Invalid(refusal.detail, pointer="/time_limit_s") from None
    if "queue" in changes or "gpus" in changes:
        known = {queue.name: queue for queue in queues.every(db)}
        queue = queues.named(known, changes.get("queue", job.queue))
        if "queue" in changes:
            queue.must_be_open()
            queue.admit(job.spec, user=job.user, admin=by_admin)
        queue.check_gpus(changes.get("gpus", job.gpus))


def purge(db: sqlite3.Connection, ref: str, *, by: str, now: float) -> list[tuple[int, int]]:
    """Forget a finished job. The (job id, attempt number) pairs whose files may go. Raises NotFound,
    WrongState."""
    job = find_for_change(db, ref, now)
    must_be_forgettable(db, job)
    retention.forget(db, [job.id], by=by, now=now)
    return [(job.id, number) for number in range(1, job.attempt + 1)]


def must_be_forgettable(db: sqlite3.Connection, job: Job) -> None:
    """Raise WrongState unless the job has ended and no unfinished one needs it."""
    if job.state not in TERMINAL:
        raise WrongState(f"job {job.ref} is {job.state}", hint="cancel it first")
    why = retention.needed_now(db, job.id)
    if why is not None:
        raise WrongState(f"job {job.ref} is still needed: {why}", hint="wait for that job, or cancel it")


def _pending(db: sqlite3.Connection, ref: str, verb: str, now: float) -> Job:
    job = find_for_change(db, ref, now)
    if job.state is not State.PENDING:
        also = " (a running job keeps its GPUs: cancel it instead)" if job.state in LIVE else ""
        raise WrongState(f"job {job.ref} is {job.state} and cannot be {verb}{also}")
    return job
