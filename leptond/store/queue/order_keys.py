"""The places of pending jobs in the orders of the policies, kept in columns of ``jobs``; and the history of
runs that predictions come from."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import msgspec

from leptond.core.jobs.model import JobSpec
from leptond.core.scheduling import run_time
from leptond.core.scheduling.inputs import Policy
from leptond.core.scheduling.order_keys import OrderInputs, order_keys
from leptond.store.database.conditions import IS_PENDING, IS_READY

_policy = msgspec.json.Decoder(Policy)
_spec = msgspec.json.Decoder(JobSpec)

_KEY = "planner_figures"
LAST = 8
"""Of the newest jobs that wait, how many are asked from when they count."""

KEEP_RUNS = 20_000
"""Most kinds of command that are remembered; beyond, the oldest are forgotten."""


def figures(db: sqlite3.Connection) -> Policy:
    """The policy that the stored places were worked out with."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
    return Policy() if row is None else _policy.decode(row["value"])


def adopt(db: sqlite3.Connection, policy: Policy) -> int:
    """Make `policy` the one that places are worked out with. When its figures are new, every pending job
    is placed again, else those that have no place yet (an older leptond stored them); how many were."""
    text = msgspec.json.encode(policy).decode()
    row = db.execute("SELECT value FROM meta WHERE key = ?", (_KEY,)).fetchone()
    before = figures(db)
    known = row is not None and before == policy
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (_KEY, text))
    only = " AND signature = ''" if known else ""
    placed = last = 0
    while True:
        some = db.execute(
            f"SELECT * FROM jobs WHERE {IS_PENDING}{only} AND id > ? ORDER BY id LIMIT 1000", (last,)
        ).fetchall()
        if not some:
            break
        for job in some:
            since = _since(job, job["priority"], before) if job["signature"] else None
            _place(db, job, policy, since=since)
        placed, last = placed + len(some), some[-1]["id"]
    for row in db.execute(f"SELECT * FROM folds WHERE {IS_PENDING}{only}").fetchall():
        place_compact(db, row, policy)
    return placed


class Places:
    """The planner's columns of jobs that are about to be stored together: what they have in common is looked
    up once."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._policy = figures(db)
        self._not_before = _newest(db, self._policy)
        self._kinds: dict[tuple[str, ...], str] = {}
        self._known: dict[tuple[str, str, int], float | None] = {}

    def columns(self, spec: JobSpec, *, user: str, now: float, begin_at: float | None) -> dict[str, Any]:
        """The columns of one job."""
        command = (str(spec.shell), *spec.argv)
        kind = self._kinds.get(command)
        if kind is None:
            kind = self._kinds[command] = run_time.command_kind(spec.argv, shell=spec.shell)
        key = (user, kind, spec.gpus)
        if key not in self._known:
            self._known[key] = _predicted(self._db, user, kind, spec.gpus)
        since = max(now, self._not_before, begin_at or 0.0)
        if begin_at is None:
            # for those that follow, as _newest reads it from a row that is stored
            self._not_before = max(self._not_before, since if since > now + 1.0 else now)
        facts = OrderInputs(
            priority=spec.priority,
            gpus=spec.gpus,
            since=since,
            preemptible=spec.preemptible,
            limit_s=spec.time_limit_s,
            predicted_s=self._known[key],
        )
        place = order_keys(facts, self._policy)
        return {
            "signature": kind,
            "predicted_s": self._known[key],
            "order_at": place.order_at,
            "lane": place.lane,
            "due_at": place.due_at,
            "alone_at": place.alone_at,
            "short_s": place.short_s,
        }


def _newest(db: sqlite3.Connection, policy: Policy) -> float:
    """From when the newest of the jobs that wait count their places; those with a begin time say nothing of
    it. No later job counts from an earlier time, also when the wall clock has been set back in
    between: equal jobs keep their order."""
    newest = db.execute(
        f"SELECT submitted_at, begin_at, order_at, priority FROM jobs WHERE {IS_PENDING}"
        " ORDER BY id DESC LIMIT ?",
        (LAST,),
    )
    return max(
        (_since(row, row["priority"], policy) for row in newest if row["begin_at"] is None), default=0.0
    )


def _since(job: sqlite3.Row | Mapping[str, Any], priority: int, policy: Policy) -> float:
    """From when a job counts its place: its submission, or later where the clock was set back before it. It
    is what its stored place was made from, with the priority and the policy of then."""
    own: float = max(job["submitted_at"], job["begin_at"] or 0.0)
    stored: float = job["order_at"] + priority * policy.priority_step_s
    return stored if job["begin_at"] is None and stored > own + 1.0 else own


def place(db: sqlite3.Connection, job_id: int, *, was: int | None = None) -> None:
    """Work the places of a job out anew, after something about it has changed. It counts from when it did,
    if `was` is given, its priority before; else from its submission or its begin time."""
    job = db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
    policy = figures(db)
    _place(db, job, policy, since=_since(job, was, policy) if was is not None else None)


def place_compact(db: sqlite3.Connection, row: sqlite3.Row, policy: Policy) -> None:
    """Place the members of a row of ``folds`` anew, and count the ready members of their array that have the
    same place."""
    _place(db, {**dict(row), "gpu_ms": 0}, policy, "folds")
    db.execute(
        "UPDATE arrays SET (queue, gpus, order_at, due_at, alone_at, short_s) = (SELECT queue, gpus,"
        " order_at, due_at, alone_at, short_s FROM folds WHERE id = ?) WHERE id = ?",
        (row["id"], row["array_id"]),
    )
    db.execute(
        "UPDATE arrays SET ready = (SELECT count(*) FROM jobs WHERE array_id = arrays.id"
        f" AND {IS_READY}"
        " AND backoff_boot IS NULL"
        " AND jobs.queue = arrays.queue AND jobs.gpus = arrays.gpus AND jobs.order_at = arrays.order_at"
        " AND jobs.due_at = arrays.due_at AND jobs.alone_at = arrays.alone_at"
        " AND jobs.short_s = arrays.short_s) WHERE id = ?",
        (row["array_id"],),
    )


def _place(
    db: sqlite3.Connection,
    job: sqlite3.Row | Mapping[str, Any],
    policy: Policy,
    table: str = "jobs",
    *,
    since: float | None = None,
) -> None:
    kind = job["signature"]
    if not kind:
        spec = _spec.decode(job["spec"])
        kind = run_time.command_kind(spec.argv, shell=spec.shell)
    predicted_s = _predicted(db, job["user"], kind, job["gpus"])
    facts = OrderInputs(
        priority=job["priority"],
        gpus=job["gpus"],
        since=max(job["submitted_at"], job["begin_at"] or 0.0) if since is None else since,
        preemptible=bool(job["preemptible"]),
        limit_s=job["time_limit_s"],
        predicted_s=predicted_s,
        attained_gpu_s=job["gpu_ms"] / 1000,
    )
    db.execute(
        f"UPDATE {table} SET signature = ?, predicted_s = ?, order_at = ?, lane = ?, due_at = ?,"
        " alone_at = ?, short_s = ? WHERE id = ?",
        (kind, predicted_s, *order_keys(facts, policy), job["id"]),
    )


def _predicted(db: sqlite3.Connection, user: str, kind: str, gpus: int) -> float | None:
    row = db.execute(
        "SELECT last_s, before_s FROM runs WHERE user = ? AND signature = ? AND gpus = ?", (user, kind, gpus)
    ).fetchone()
    return None if row is None else run_time.predicted_run_s(row["last_s"], row["before_s"])


def note_run(db: sqlite3.Connection, job_id: int, run_s: float, now: float) -> None:
    """Remember a successful run: `run_s` of its last attempt, and what the preempted ones before it did."""
    (fresh,) = db.execute(
        "INSERT INTO runs (user, signature, gpus, last_s, at) SELECT user, signature, gpus, ? + (SELECT"
        " coalesce(sum(run_s), 0) FROM attempts WHERE job_id = jobs.id AND class = 'preempted'), ?"
        " FROM jobs WHERE id = ?"
        " ON CONFLICT DO UPDATE SET before_s = last_s, last_s = excluded.last_s, at = excluded.at"
        " RETURNING before_s IS NULL",
        (run_s, now, job_id),
    ).fetchone()
    if fresh and _kinds_beyond(db, KEEP_RUNS):
        db.execute(
            "DELETE FROM runs WHERE at < (SELECT at FROM runs ORDER BY at LIMIT 1 OFFSET ?)",
            (KEEP_RUNS // 10,),
        )


def _kinds_beyond(db: sqlite3.Connection, most: int) -> bool:
    counted: int = db.execute("SELECT count(*) FROM (SELECT 1 FROM runs LIMIT ?)", (most + 1,)).fetchone()[0]
    return counted > most


def note_eviction(db: sqlite3.Connection, job_id: int, cost_s: float, now: float) -> None:
    """Remember what a preemption cost: work done again, and the start."""
    job = db.execute("SELECT user, signature, gpus FROM jobs WHERE id = ?", (job_id,)).fetchone()
    row = db.execute(
        "SELECT eviction_cost_s FROM runs WHERE user = ? AND signature = ? AND gpus = ?", tuple(job)
    ).fetchone()
    cost_s = run_time.smoothed_cost_s(None if row is None else row["eviction_cost_s"], cost_s)
    db.execute(
        "INSERT INTO runs (user, signature, gpus, eviction_cost_s, at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET eviction_cost_s = excluded.eviction_cost_s, at = excluded.at",
        (*job, cost_s, now),
    )
