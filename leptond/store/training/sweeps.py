"""Sweeps: what was asked for, what the trials show, and what was decided at their rungs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from leptond.base.errors import NotFound
from leptond.core.access.visible import Visible
from leptond.core.jobs.model import TERMINAL, Attempt, FailureClass, Job, State, StopReason
from leptond.core.training import halving
from leptond.core.training.halving import Mode
from leptond.core.training.progress import ProgressBatch, ProgressMessage
from leptond.core.training.sweeps import Params
from leptond.store.database import rows, visibility
from leptond.store.database.conditions import ATTEMPT_LIVES
from leptond.store.queue import jobs
from leptond.store.queue.submit import Stored


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of a sweep for its trials. `min_step`: the first rung (None: by the total of the first
    trial that reports one). `asked`: the grid, the spaces and the seed, as they were asked for."""

    metric: str
    mode: Mode
    halving: bool
    eta: int
    min_step: int | None
    asked: dict[str, Any]


class Sweep(Plan, frozen=True, kw_only=True):
    """A sweep as it is stored; times are UTC seconds."""

    id: int
    name: str
    user: str
    submitted_at: float


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a trial at a rung (a value of None: not finite) and what came of it: `on`, `stop`, or None
    while that is not decided."""

    rung: int
    step: int
    value: float | None
    verdict: Literal["on", "stop"] | None
    note: str | None


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A trial: its job and attempts, and what it has shown of the metric."""

    job: Job
    attempts: list[Attempt]
    params: Params
    last: float | None
    last_step: int | None
    best: float | None
    best_step: int | None
    rungs: list[Rung]

    @property
    def stopped_early(self) -> bool:
        """True if its sweep has ended it, or is about to."""
        return any(attempt.stop_reason == StopReason.HALVING for attempt in self.attempts) or (
            self.job.class_ is FailureClass.STOPPED_EARLY
        )


class Best(msgspec.Struct, frozen=True, kw_only=True):
    """The best trial of a sweep, by its newest value."""

    id: int
    ref: str
    params: Params
    value: float
    step: int | None


# Here and not at their first use, which may be in two threads at once (see store/rows.py)
_params = msgspec.json.Decoder(Params)
_asked = msgspec.json.Decoder(dict[str, Any])
for _type in (Sweep, Rung):
    msgspec.json.Decoder(_type)


def begin(
    db: sqlite3.Connection,
    plan: Plan,
    params: Sequence[Params],
    stored: Sequence[Stored],
    *,
    user: str,
    now: float,
) -> None:
    """Store a sweep beside its jobs, in the transaction that stores them."""
    sweep_id = stored[0].id
    db.execute(
        "INSERT INTO sweeps (id, name, user, metric, mode, halving, eta, min_step, asked, submitted_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            sweep_id,
            stored[0].name,
            user,
            plan.metric,
            plan.mode,
            int(plan.halving),
            plan.eta,
            plan.min_step,
            msgspec.json.encode(plan.asked).decode(),
            now,
        ),
    )
    db.executemany(
        "INSERT INTO trials (job_id, sweep_id, params) VALUES (?, ?, ?)",
        [
            (job.id, sweep_id, msgspec.json.encode(one).decode())
            for job, one in zip(stored, params, strict=True)
        ],
    )


# -- while they run ----------------------------------------------------------------------------------------


def note(db: sqlite3.Connection, attempt: Attempt, one: ProgressBatch, *, now: float) -> bool:
    """Take in what an attempt reported; whether its trial has reached a rung that is to be decided. Nothing
    happens for a job that is no trial."""
    row = db.execute(
        "SELECT trials.*, sweeps.metric, mode, halving, eta, min_step FROM trials"
        " JOIN sweeps ON sweeps.id = sweep_id WHERE job_id = ?",
        (attempt.job_id,),
    ).fetchone()
    if row is None:
        return False
    total = one.latest.total if one.latest.total is not None else attempt.total_steps
    shown = list(_shown(row["metric"], attempt, one.points))
    best, best_step = row["best"], row["best_step"]
    for step, value in shown:
        if halving.better(value, best, row["mode"]):
            best, best_step = value, step
    if shown:
        db.execute(
            "UPDATE trials SET last_step = ?, last = ?, best = ?, best_step = ? WHERE job_id = ?",
            (*shown[-1], best, best_step, attempt.job_id),
        )
    min_step = _min_step(db, row, total)
    if not row["halving"] or min_step is None:
        return False
    rungs = halving.rungs_reached(
        dict(one.latest.rungs),
        shown,
        highest=db.execute("SELECT max(rung) FROM rungs WHERE job_id = ?", (attempt.job_id,)).fetchone()[0]
        or 0,
        rule=halving.RungSchedule(min_step=min_step, eta=row["eta"]),
        total=total,
    )
    db.executemany(
        "INSERT INTO rungs (sweep_id, job_id, rung, step, value, at) VALUES (?, ?, ?, ?, ?, ?)",
        [(row["sweep_id"], attempt.job_id, rung, step, value, now) for rung, (step, value) in rungs.items()],
    )
    return bool(rungs)


def _shown(
    metric: str, attempt: Attempt, points: Sequence[ProgressMessage]
) -> Iterator[tuple[int, float | None]]:
    """The steps of reports, in the order in which they came, and the metric there."""
    step = attempt.step
    for point in points:
        step = point.step if point.step is not None else step
        if metric in point.metrics and step is not None:
            yield step, point.metrics[metric]


def _min_step(db: sqlite3.Connection, row: sqlite3.Row, total: int | None) -> int | None:
    """The first rung; the first trial that reports its total sets it for all."""
    if row["min_step"] is not None or not row["halving"] or total is None:
        found: int | None = row["min_step"]
        return found
    first = halving.first_rung(total, row["eta"])
    db.execute("UPDATE sweeps SET min_step = ? WHERE id = ?", (first, row["sweep_id"]))
    return first


def decide(db: sqlite3.Connection, *, now: float) -> list[int]:
    """Decide every rung that is open, in the order in which they were reached, and ask the trials to stop
    that are not among the best there; the ids of those jobs (index rungs_open)."""
    stopped = []
    for row in db.execute(
        "SELECT rungs.*, mode, eta FROM rungs JOIN sweeps ON sweeps.id = sweep_id"
        " WHERE verdict IS NULL ORDER BY rungs.id"
    ).fetchall():
        so_far = [
            one["value"]
            for one in db.execute(
                "SELECT value FROM rungs WHERE sweep_id = ? AND rung = ? AND id <= ?",
                (row["sweep_id"], row["rung"], row["id"]),
            )
        ]
        judgement = halving.decide_at_rung(row["value"], so_far, mode=row["mode"], eta=row["eta"])
        words = None if judgement.go_on else halving.explain_stop(row["rung"], row["value"], judgement)
        db.execute(
            "UPDATE rungs SET verdict = ?, note = ? WHERE id = ?",
            ("on" if judgement.go_on else "stop", words, row["id"]),
        )
        if words is not None and _stop(db, row["job_id"], row["sweep_id"], words, now):
            stopped.append(row["job_id"])
    return stopped


def _stop(db: sqlite3.Connection, job_id: int, sweep_id: int, why: str, now: float) -> bool:
    """Return True if there was anything to stop: a trial that waits to be tried again is over at once."""
    job = jobs.find(db, str(job_id))
    if job.state in TERMINAL:
        return False
    asked = db.execute(
        f"SELECT stop_reason FROM attempts WHERE job_id = ? AND {ATTEMPT_LIVES}", (job_id,)
    ).fetchone()
    if asked is not None and asked["stop_reason"] not in (None, StopReason.PREEMPT):
        return False  # it is on its way out for good
    if job.state is State.PENDING:
        jobs.end(db, job, State.CANCELLED, now, {"class": FailureClass.STOPPED_EARLY, "explanation": why})
        return True
    grace_s = job.spec.grace_s or 0.0
    reason = StopReason.HALVING
    jobs.stop(db, job, reason, by=f"sweep {sweep_id}", grace_s=grace_s, now=now, note=why)
    return True


def any_open(db: sqlite3.Connection) -> bool:
    """Return True if a rung waits for its decision (index rungs_open)."""
    return db.execute("SELECT 1 FROM rungs WHERE verdict IS NULL LIMIT 1").fetchone() is not None


# -- read back ---------------------------------------------------------------------------------------------


def no_such_sweep(sweep_id: int) -> NotFound:
    """Return the error for a sweep that is not there, or not for the caller."""
    return NotFound(f"there is no sweep {sweep_id}", hint="`leptonctl sweeps` lists them")


def find(db: sqlite3.Connection, sweep_id: int) -> Sweep:
    """The sweep of that number. Raises NotFound."""
    row = db.execute("SELECT * FROM sweeps WHERE id = ?", (sweep_id,)).fetchone()
    if row is None:
        raise no_such_sweep(sweep_id)
    return _sweep(row)


def newest(
    db: sqlite3.Connection, *, limit: int, before: int | None = None, visible: Visible | None = None
) -> list[Sweep]:
    """The newest sweeps, of those whose numbers are below `before`, and all of whose trials are in
    `visible`."""
    seen, values = visibility.condition(visible) if visible is not None else ("1", [])
    hidden = (
        ""
        if seen == "1"
        else (f" AND NOT EXISTS (SELECT 1 FROM jobs WHERE array_id = sweeps.id AND NOT {seen})")
    )
    return [
        _sweep(row)
        for row in db.execute(
            f"SELECT * FROM sweeps WHERE id < ?{hidden} ORDER BY id DESC LIMIT ?",
            (before if before is not None else 2**62, *(values if hidden else ()), limit),
        )
    ]


def _sweep(row: sqlite3.Row) -> Sweep:
    values = {**dict(row), "halving": bool(row["halving"])}
    return rows.shown(values, Sweep, {"asked": _asked.decode}, {"mode": "min"})


def trials(db: sqlite3.Connection, sweep_id: int) -> list[Trial]:
    """The trials of a sweep that are not forgotten, in the order of their numbers (index trials_sweep)."""
    rungs: dict[int, list[Rung]] = {}
    for row in db.execute("SELECT * FROM rungs WHERE sweep_id = ? ORDER BY rung", (sweep_id,)):
        rungs.setdefault(row["job_id"], []).append(
            Rung(
                rung=row["rung"],
                step=row["step"],
                value=row["value"],
                verdict=row["verdict"],
                note=row["note"],
            )
        )
    attempts: dict[int, list[Attempt]] = {}
    for row in db.execute(
        "SELECT attempts.* FROM trials JOIN attempts ON attempts.job_id = trials.job_id"
        " WHERE sweep_id = ? ORDER BY trials.job_id, number",
        (sweep_id,),
    ):
        attempts.setdefault(row["job_id"], []).append(rows.shown_attempt(row))
    shown = {
        row["job_id"]: dict(row) for row in db.execute("SELECT * FROM trials WHERE sweep_id = ?", (sweep_id,))
    }
    return [
        _trial(rows.shown_job(row), attempts.get(row["id"], []), shown[row["id"]], rungs.get(row["id"], []))
        for row in db.execute(
            "SELECT jobs.* FROM trials JOIN jobs ON jobs.id = job_id WHERE sweep_id = ? ORDER BY jobs.id",
            (sweep_id,),
        )
    ]


def _trial(job: Job, attempts: list[Attempt], shown: Mapping[str, Any], rungs: list[Rung]) -> Trial:
    return Trial(
        job=job,
        attempts=attempts,
        params=rows.text_or(_params.decode, shown["params"], {}),
        last=shown["last"],
        last_step=shown["last_step"],
        best=shown["best"],
        best_step=shown["best_step"],
        rungs=rungs,
    )


def best(db: sqlite3.Connection, sweep: Sweep) -> Best | None:
    """The trial with the best newest value: of those that succeeded, or of all while none has; None while
    none has shown one."""
    order = "ASC" if sweep.mode == "min" else "DESC"
    row = db.execute(
        "SELECT trials.*, array_index FROM trials JOIN jobs ON jobs.id = job_id"
        " WHERE sweep_id = ? AND last IS NOT NULL"
        f" ORDER BY (state = '{State.SUCCEEDED}') DESC, last {order}, job_id LIMIT 1",
        (sweep.id,),
    ).fetchone()
    if row is None:
        return None
    return Best(
        id=row["job_id"],
        ref=f"{sweep.id}_{row['array_index']}",
        params=rows.text_or(_params.decode, row["params"], {}),
        value=row["last"],
        step=row["last_step"],
    )


def counts(db: sqlite3.Connection, sweep_id: int) -> dict[str, int]:
    """Count the trials by state; those that were stopped early are counted as `stopped_early`
    alone."""
    return {
        row["what"]: row["n"]
        for row in db.execute(
            "SELECT CASE WHEN class = 'stopped-early' AND ended_at IS NOT NULL THEN 'stopped_early'"
            " ELSE state END AS what, count(*) AS n FROM jobs WHERE array_id = ? GROUP BY what",
            (sweep_id,),
        )
    }
