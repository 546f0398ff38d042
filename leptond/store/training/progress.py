"""The progress that jobs report: the newest state on the attempt, the curve, and events about both."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from leptond.base.errors import Invalid, WrongState
from leptond.core.jobs.model import TERMINAL, Attempt, Job, Knob, StopReason, Tuned
from leptond.core.training.progress import (
    CURVE_POINTS,
    ProgressBatch,
    ProgressMessage,
    curve_point,
    event_due,
)
from leptond.store.database import events, rows
from leptond.store.database.conditions import ATTEMPT_RUNS
from leptond.store.queue import jobs
from leptond.store.training import sweeps


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A point of a curve. `at` is UTC seconds; a value of None was not a finite number."""

    attempt: int
    step: int | None
    at: float
    values: dict[str, float | None]


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Every `stride`-th of the `seen` reports of a job."""

    stride: int
    seen: int
    points: list[Point]


_values = msgspec.json.Decoder(dict[str, float | None])


def owners(db: sqlite3.Connection, attempt_ids: Iterable[str]) -> dict[str, int | None]:
    """Return the uid of the account that each of these attempts runs under, of those that are known here."""
    found: dict[str, int | None] = {}
    for attempt_id in attempt_ids:
        row = db.execute(
            "SELECT jobs.uid FROM attempts JOIN jobs ON jobs.id = attempts.job_id WHERE attempts.id = ?",
            (attempt_id,),
        ).fetchone()
        if row is not None:
            found[attempt_id] = row["uid"]
    return found


def record(db: sqlite3.Connection, batch: Iterable[ProgressBatch], *, now: float) -> bool:
    """Store what came from some attempts since the last time; whether a trial of a sweep has reached a
    rung, so that there is something to decide (:func:`leptond.store.training.sweeps.decide`). An attempt
    that is not known here is passed over; one that has ended still gets its last words."""
    to_decide = False
    for one in batch:
        row = db.execute("SELECT * FROM attempts WHERE id = ?", (one.latest.attempt,)).fetchone()
        if row is not None:
            to_decide |= _record(db, row, one, now)
    return to_decide


def _record(db: sqlite3.Connection, row: sqlite3.Row, one: ProgressBatch, now: float) -> bool:
    attempt, latest = rows.attempt(row), one.latest
    earliest = attempt.started_at if attempt.started_at is not None else attempt.claimed_at

    def believed(at: float) -> float:
        return min(max(at, earliest), max(now, earliest))

    changes: dict[str, Any] = {"progress_at": believed(latest.at)}
    if latest.step is not None:
        changes["step"] = latest.step
        if attempt.first_progress_at is None:
            changes["first_progress_at"] = believed(
                latest.first_at if latest.first_at is not None else latest.at
            )
            changes["first_step"] = latest.first_step if latest.first_step is not None else latest.step
    if latest.total is not None:
        changes["total_steps"] = latest.total
    saved = latest.checkpoint
    new_checkpoint = saved is not None and saved.step != attempt.checkpoint_step
    if saved is not None and new_checkpoint:
        changes |= {"checkpoint_at": believed(saved.at), "checkpoint_step": saved.step}
    if latest.metrics:
        changes["metrics"] = _json({**attempt.metrics, **latest.metrics})
    if latest.knobs and latest.knobs != attempt.knobs:
        changes["knobs"] = _json(latest.knobs)
    if latest.tuned > attempt.applied_version:
        changes["applied_version"] = latest.tuned
        values = {name: knob.value for name, knob in latest.knobs.items()}
        data = {"version": latest.tuned, "values": values, "step": changes.get("step", attempt.step)}
        events.append(db, now, "job.tuned", job=attempt.job_id, attempt=attempt.number, data=data)
    first_at = changes.get("first_progress_at", attempt.first_progress_at)
    if first_at is not None and event_due(first_at, row["progress_event_at"], now):
        changes["progress_event_at"] = now
        data = {
            "step": changes.get("step", attempt.step),
            "total": changes.get("total_steps", attempt.total_steps),
            "metrics": {**attempt.metrics, **latest.metrics},
            "checkpoint_step": changes.get("checkpoint_step", attempt.checkpoint_step),
        }
        events.append(db, now, "job.progress", job=attempt.job_id, attempt=attempt.number, data=data)
    assignments = ", ".join(f"{column} = :{column}" for column in changes)
    db.execute(f"UPDATE attempts SET {assignments} WHERE id = :id", {**changes, "id": attempt.id})
    if one.points:
        _draw(db, attempt, one.points, believed)
    return sweeps.note(db, attempt, one, now=now)


def _draw(db: sqlite3.Connection, attempt: Attempt, points: list[ProgressMessage], believed: Any) -> None:
    """Add points to the job's curve, thinning it out when it is full."""
    row = db.execute("SELECT stride, seen, kept FROM curves WHERE job_id = ?", (attempt.job_id,)).fetchone()
    stride, seen, kept = row if row is not None else (1, 0, 0)
    step = attempt.step
    for point in points:
        step = point.step if point.step is not None else step
        wanted, new_stride = curve_point(stride, seen, kept)
        if new_stride != stride:
            stride = new_stride
            db.execute("DELETE FROM metrics WHERE job_id = ? AND n % ? <> 0", (attempt.job_id, stride))
            kept = db.execute("SELECT count(*) FROM metrics WHERE job_id = ?", (attempt.job_id,)).fetchone()[
                0
            ]
        if wanted:
            db.execute(
                "INSERT INTO metrics (job_id, n, attempt, step, at, data) VALUES (?, ?, ?, ?, ?, ?)",
                (attempt.job_id, seen, attempt.number, step, believed(point.at), _json(point.metrics)),
            )
            kept += 1
        seen += 1
    db.execute(
        "INSERT INTO curves (job_id, stride, seen, kept) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (job_id) DO UPDATE SET stride = excluded.stride, seen = excluded.seen,"
        " kept = excluded.kept",
        (attempt.job_id, stride, seen, kept),
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def curve(db: sqlite3.Connection, job_id: int, *, since_n: int = 0, limit: int = CURVE_POINTS) -> Curve:
    """The curve of a job in the order of its reports (primary key of metrics)."""
    head = db.execute("SELECT stride, seen FROM curves WHERE job_id = ?", (job_id,)).fetchone()
    found = db.execute(
        "SELECT attempt, step, at, data FROM metrics WHERE job_id = ? AND n >= ? ORDER BY n LIMIT ?",
        (job_id, since_n, limit),
    )
    return Curve(
        stride=head["stride"] if head is not None else 1,
        seen=head["seen"] if head is not None else 0,
        points=[
            Point(
                attempt=row["attempt"],
                step=row["step"],
                at=row["at"],
                values=rows.text_or(_values.decode, row["data"], {}),
            )
            for row in found
        ],
    )


def tune(
    db: sqlite3.Connection, ref: str, values: Mapping[str, float], *, by: str, now: float
) -> tuple[Job, Attempt]:
    """Ask for knobs of a job to be turned, for this attempt and those to come; the job and its newest
    attempt. Raises NotFound, WrongState, Invalid."""
    job = jobs.find(db, ref)
    if job.state in TERMINAL:
        raise WrongState(f"job {job.ref} has already ended: {job.state}")
    row = db.execute(
        "SELECT * FROM attempts WHERE job_id = ? ORDER BY number DESC LIMIT 1", (job.id,)
    ).fetchone()
    attempt = rows.attempt(row) if row is not None else None
    if attempt is None or not _declared(db, job.id):
        raise WrongState(
            f"job {job.ref} has not declared any knobs",
            hint="its script does so with leptond.job.knob, or with leptond.train.loop.Training",
        )
    knobs = _declared(db, job.id)
    for name, value in values.items():
        knob = knobs.get(name)
        if knob is None:
            raise Invalid(
                f"job {job.ref} has no knob {name!r}; it has {', '.join(sorted(knobs))}", pointer=f"/{name}"
            )
        if not knob.low <= value <= knob.high:
            raise Invalid(f"{name} goes from {knob.low:g} to {knob.high:g}", pointer=f"/{name}")
    version = job.tuned_version + 1
    asked = {**job.tuned, **{name: Tuned(value=value, version=version) for name, value in values.items()}}
    jobs.touch(db, job.id, {"tuned": _json(asked), "tuned_version": version})
    data = {"values": dict(values), "version": version, "step": attempt.step, "by": by}
    events.append(db, now, "job.tune", job=job.id, attempt=attempt.number, data=data)
    return jobs.find(db, str(job.id)), attempt


def _declared(db: sqlite3.Connection, job_id: int) -> dict[str, Knob]:
    """The knobs of the newest attempt that declared any: one that has just begun has not yet."""
    row = db.execute(
        "SELECT * FROM attempts WHERE job_id = ? AND knobs <> '{}' ORDER BY number DESC LIMIT 1", (job_id,)
    ).fetchone()
    return rows.attempt(row).knobs if row is not None else {}


def hung(db: sqlite3.Connection, attempt_id: str, *, now: float) -> bool:
    """Note durably that an attempt has to stop for want of progress; whether it was still running."""
    row = db.execute(
        "SELECT jobs.* FROM jobs JOIN attempts ON attempts.job_id = jobs.id"
        f" WHERE attempts.id = ? AND attempts.{ATTEMPT_RUNS}",
        (attempt_id,),
    ).fetchone()
    if row is None:
        return False
    job = rows.job(row)
    jobs.stop(db, job, StopReason.HANG, by="leptond", grace_s=job.spec.grace_s or 0.0, now=now)
    return True
