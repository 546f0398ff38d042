"""The part of the queue that a plan considers: the first jobs that may start, in each order that the policy
has, read by indexes that hold nothing else (migrations 0009 and 0015). Jobs that need GPUs and jobs that need
none are read apart, so that neither costs anything where only the other could start."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from inspect import signature
from typing import Any, NamedTuple

from leptond.core.jobs.model import FailureClass
from leptond.core.scheduling import planner
from leptond.store.database import rows
from leptond.store.database.conditions import IS_READY
from leptond.store.planning import owners

WINDOW = 1000
"""Most waiting jobs that one plan considers: its cost stays flat however deep the queue is."""

SHORT_WINDOW = 32

_GPU_TROUBLE = (FailureClass.INFRA_GPU, FailureClass.APP_GPU, FailureClass.INFRA_OOM_GPU)


class Slice(NamedTuple):
    """A part of a window: the first jobs by an index, of those that may start and fulfil `only`. `part` of
    the window is its size."""

    by: str
    order: str
    part: float
    only: str = "gpus > 0"


_OLDEST = Slice("jobs_by_order", "order_at", 0.25)
_URGENT = Slice("jobs_urgent", "order_at", 0.25, "urgent = 1 AND gpus > 0")
_PREEMPTIBLE = Slice("jobs_preemptible", "order_at", 0.0, "preemptible = 1")
_SOFT = (
    Slice("jobs_by_due", "due_at", 0.5, "lane = 0 AND gpus > 0"),
    Slice("jobs_by_due", "due_at", 0.25, "lane = 1 AND gpus > 0"),
    _OLDEST,
    _URGENT,
    _PREEMPTIBLE,
)
_ALONE = (Slice("jobs_by_due_alone", "alone_at", 0.75), _OLDEST, _URGENT)
_BY_RUN = (Slice("jobs_by_run", "short_s", 0.75), _URGENT)
_SUBMITTED = (Slice("jobs_by_order", "order_at", 0.75), _URGENT)
_CPU = (
    Slice("jobs_by_order_cpu", "order_at", 0.75, "gpus = 0"),
    Slice("jobs_urgent_cpu", "order_at", 0.25, "urgent = 1 AND gpus = 0"),
)


_Row = tuple[Any, ...]
"""The values of _COLUMNS; the first is the job's id."""


class Candidates(NamedTuple):
    """The jobs of a window, and whether it has all that may start: of those that need GPUs, and of those that
    need none. Kinds that were not asked for count as complete."""

    jobs: list[planner.Waiting]
    all_gpu: bool
    all_cpu: bool


def find(
    db: sqlite3.Connection, machine: planner.PlanInput, *, boot: float, gpu: int, cpu: int
) -> Candidates:
    """The jobs that may start and that the policy has to see, about `gpu` of those that need GPUs and `cpu`
    of those that need none: for each of its orders the first by an index, and the first of each owner. The
    indexes are named, because SQLite would rather take all pending jobs by state and sort them."""
    now = machine.now
    found: dict[int, _Row] = {}
    cut = {True: False, False: False}
    for of_gpus, size in ((True, gpu), (False, cpu)):
        if not size:
            continue
        for part in _slices(db, machine, boot) if of_gpus else _CPU:
            most = max(1, round(size * part.part))
            some = _select(db, part, now, boot, most)
            cut[of_gpus] |= len(some) == most and part.part > 0
            found |= {row[0]: row for row in some}
        if cut[of_gpus]:
            found |= {row[0]: row for row in _first_of_each(db, now, boot, size, gpus=of_gpus)}
    borrowers = {row["name"] for row in db.execute("SELECT name FROM queues WHERE borrow = 1")}
    jobs = [_waiting(db, borrowers, *row) for row in found.values()]
    return Candidates(jobs=jobs, all_gpu=not cut[True], all_cpu=not cut[False])


def _slices(db: sqlite3.Connection, machine: planner.PlanInput, boot: float) -> tuple[Slice, ...]:
    """Return what the policy has to see of the jobs that need GPUs, in its own order; never all of it."""
    name = machine.policy.name
    match name:
        case "auto" | "throughput":
            soft = any(job.preemptible for job in machine.running) or bool(
                _select(db, _PREEMPTIBLE, machine.now, boot, 1)
            )
            by_run = _BY_RUN[:1] if name == "throughput" else ()
            return (*(_SOFT if soft else _ALONE), *by_run)
        case "shortest":
            return _BY_RUN
        case _:
            return _SUBMITTED


def _select(
    db: sqlite3.Connection,
    part: Slice,
    now: float,
    boot: float,
    size: int,
    values: Sequence[str] = (),
) -> list[_Row]:
    cursor = db.cursor()
    cursor.row_factory = None  # tuples: most of the time would be spent on names otherwise
    found: list[_Row] = cursor.execute(
        f"SELECT {_COLUMNS} FROM jobs INDEXED BY {part.by}"
        f" WHERE {IS_READY} AND {part.only}"
        " AND (backoff_boot IS NULL OR backoff_boot <= ?) AND (begin_at IS NULL OR begin_at <= ?)"
        f" ORDER BY {part.order}, id LIMIT ?",
        (*values, boot, now, size),
    ).fetchall()
    return found


def _first_of_each(db: sqlite3.Connection, now: float, boot: float, window: int, *, gpus: bool) -> list[_Row]:
    """The first jobs of each owner, however deep others have filled the queue; without those of arrays that
    may start no further member now."""
    everyone = owners.waiting(db, now, gpus=gpus)
    full = owners.full_arrays(db)
    if len(everyone) < 2 and not full:
        return []
    only = f"{owners.OF_OWNER} AND {owners.NEEDS[gpus]}"
    if full:
        only += f" AND (array_id IS NULL OR array_id NOT IN ({', '.join(map(str, full))}))"
    size = max(2, window // (4 * max(1, len(everyone))))
    part = Slice(owners.INDEX[gpus], "order_at", 0.25, only)
    return [row for owner in everyone for row in _select(db, part, now, boot, size, owners.key(owner))]


def _waiting(
    db: sqlite3.Connection,
    borrowers: Collection[str],
    /,
    id: int,
    priority: int,
    gpus: int,
    submitted_at: float,
    begin_at: float | None,
    array_id: int | None,
    array_limit: int | None,
    attempt: int,
    user: str,
    project: str | None,
    queue: str,
    time_limit_s: float | None,
    preemptible: int,
    urgent: int,
    predicted_s: float | None,
    gpu_ms: int,
    gpu_type: str | None,
    gpu_memory_bytes: int | None,
    exclusive: int,
    order_at: float,
    lane: int,
    due_at: float,
    alone_at: float,
    short_s: float,
) -> planner.Waiting:
    """A waiting job as the planner sees it. The parameters after `borrowers` are the columns that are read:
    unpacking a row into them costs nothing, as looking names up in it would."""
    return planner.Waiting(
        id=id,
        priority=priority,
        gpus=gpus,
        since=submitted_at if begin_at is None else max(submitted_at, begin_at),
        user=user,
        project=project,
        queue=queue,
        gpu_type=gpu_type,
        gpu_memory_bytes=gpu_memory_bytes,
        exclusive=bool(exclusive),
        borrow=queue in borrowers,
        array_id=array_id,
        array_limit=array_limit,
        avoid=_failed_on(db, id) if attempt else (),
        preemptible=bool(preemptible),
        urgent=bool(urgent),
        limit_s=time_limit_s,
        predicted_s=predicted_s,
        attained_gpu_s=gpu_ms / 1000,
        eviction_cost_s=_eviction_cost_s(db, id) if preemptible else None,
        order_keys=(order_at, lane, due_at, alone_at, short_s),
    )


_COLUMNS = ", ".join(tuple(signature(_waiting).parameters)[2:])


def _eviction_cost_s(db: sqlite3.Connection, job_id: int) -> float | None:
    """Return what a preemption of jobs like this has cost, in seconds; None if it was never measured."""
    row = db.execute(
        "SELECT runs.eviction_cost_s FROM jobs JOIN runs ON runs.user = jobs.user"
        " AND runs.signature = jobs.signature AND runs.gpus = jobs.gpus WHERE jobs.id = ?",
        (job_id,),
    ).fetchone()
    return row["eviction_cost_s"] if row is not None else None


def _failed_on(db: sqlite3.Connection, job_id: int) -> list[str]:
    """GPUs of the newest attempt, if it died of GPU trouble."""
    row = db.execute(
        "SELECT * FROM attempts WHERE job_id = ? ORDER BY number DESC LIMIT 1", (job_id,)
    ).fetchone()
    if row is None or row["class"] not in _GPU_TROUBLE:
        return []
    return [gpu.uuid for gpu in rows.attempt(row).gpus]
