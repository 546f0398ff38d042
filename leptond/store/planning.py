"""What the planner looks at: one snapshot of waiting jobs, running jobs and GPUs."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from leptond.core import planner
from leptond.core.cost import Demand
from leptond.core.demand import demand
from leptond.core.model import FailureClass, Gpu, Job, Reason
from leptond.core.shares import Fairness, Owner, handicaps
from leptond.store import gpus as gpu_rows
from leptond.store import owners, rows, shares

WINDOW = 1000
"""Most waiting jobs that one plan looks at: its cost stays flat however deep the queue is."""

SHORT_WINDOW = 32

_memory = msgspec.json.Decoder(planner.Memory)

NO_FAIRNESS = Fairness(max_handicap_s=0.0)

_GPU_TROUBLE = (FailureClass.INFRA_GPU, FailureClass.APP_GPU, FailureClass.INFRA_OOM_GPU)


_DEFAULT = planner.Policy()


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The planner's input. `sick` has the UUIDs of devices that do not answer, with the reason."""

    waiting: Sequence[planner.Waiting]
    running: Sequence[planner.Running]
    gpus: Sequence[Gpu]


def view(
    db: sqlite3.Connection,
    *,
    now: float,
    boot: float,
    sick: Mapping[str, str],
    window: int = WINDOW,
    policy: planner.Policy = _DEFAULT,
) -> View:
    """The first jobs that may start, about `window` of them, all running ones and the present GPUs."""
    running, devices = holders(db, sick)
    waiting = ready(db, now=now, boot=boot, window=window, policy=policy, running=running)
    waiting = in_fairness(db, waiting, policy.fairness, now=now, boot=boot)
    return View(waiting=waiting, running=running, gpus=devices)


def rules(db: sqlite3.Connection, policy: planner.Policy) -> planner.Policy:
    """The policy with the caps of single users and projects that are set now."""
    return msgspec.structs.replace(policy, limits=shares.limits(db, policy.limits))


def in_fairness(
    db: sqlite3.Connection, waiting: list[planner.Waiting], fairness: Fairness, *, now: float, boot: float
) -> list[planner.Waiting]:
    """The jobs with what fair share makes of their places."""
    if fairness.max_handicap_s <= 0 or not waiting:
        return waiting
    owners = {job.id: Owner(job.user, job.project, job.queue) for job in waiting}
    used = shares.used(db, now=now, boot=boot)
    found = handicaps(used, set(owners.values()), shares.weights(db), fairness)
    if not any(found.values()):
        return waiting
    return [msgspec.structs.replace(job, handicap_s=found[owners[job.id]]) for job in waiting]


def holders(db: sqlite3.Connection, sick: Mapping[str, str]) -> tuple[list[planner.Running], list[Gpu]]:
    """Who holds what (index jobs_live, migration 0001), and the present GPUs."""
    held: dict[int, list[str]] = {}
    devices = gpu_rows.known(db)
    for gpu in devices:
        for lease in gpu.leases:
            held.setdefault(lease.job_id, []).append(gpu.uuid)
    running = [
        planner.Running(
            id=row["id"],
            gpus=held.get(row["id"], []),
            array_id=row["array_id"],
            user=row["user"],
            project=row["project"],
            queue=row["queue"],
            share_bytes=None if row["exclusive"] else row["gpu_memory_bytes"],
            exclusive=bool(row["exclusive"]),
            priority=row["priority"],
            since=max(row["submitted_at"], row["begin_at"] or 0.0),
            started_at=row["claimed_at"],
            preemptible=bool(row["preemptible"]) and row["attempt_state"] != "starting",
            urgent=bool(row["urgent"]),
            stopping=row["attempt_state"] == "stopping",
            limit_s=row["time_limit_s"],
            predicted_s=row["predicted_s"],
            attained_gpu_s=row["gpu_ms"] / 1000,
            eviction_cost_s=row["eviction_cost_s"],
        )
        for row in db.execute(
            "SELECT jobs.*, attempts.claimed_at, attempts.state AS attempt_state, runs.eviction_cost_s"
            " FROM jobs INDEXED BY jobs_live"
            " JOIN attempts ON attempts.job_id = jobs.id AND attempts.number = jobs.attempt"
            " LEFT JOIN runs ON runs.user = jobs.user AND runs.signature = jobs.signature"
            " AND runs.gpus = jobs.gpus"
            " WHERE jobs.state IN ('starting', 'running', 'stopping') ORDER BY jobs.id"
        )
    ]
    return running, [device(gpu, sick) for gpu in devices if gpu.present]


class Slice(NamedTuple):
    """A part of a window: the first jobs by an index, of those that may start and fulfil `only`. `part` of
    the window is its size."""

    by: str
    order: str
    part: float
    only: str = ""


_OLDEST = Slice("jobs_by_order", "order_at", 0.25)
_URGENT = Slice("jobs_urgent", "order_at", 0.25, "urgent = 1")
_SOFT = (
    Slice("jobs_by_due", "due_at", 0.5, "lane = 0"),
    Slice("jobs_by_due", "due_at", 0.25, "lane = 1"),
    _OLDEST,
    _URGENT,
    Slice("jobs_preemptible", "order_at", 0.0, "preemptible = 1"),
)
_ALONE = (Slice("jobs_by_due_alone", "alone_at", 0.75), _OLDEST, _URGENT)
_BY_RUN = (Slice("jobs_by_run", "short_s", 0.75), _URGENT)
_SUBMITTED = (Slice("jobs_by_order", "order_at", 0.75), _URGENT)
_CPU = (Slice("jobs_by_order_cpu", "order_at", 0.75, "gpus = 0"),)


def slices(db: sqlite3.Connection, policy: planner.Policy, running: Sequence[planner.Running]) -> list[Slice]:
    """What the policy has to see of the queue, in its own order; never all of it."""
    match policy.name:
        case "auto" | "throughput":
            soft = any(job.preemptible for job in running) or bool(_select(db, _SOFT[-1], 0.0, 0.0, 1))
            by_run = _BY_RUN[:1] if policy.name == "throughput" else ()
            return [*(_SOFT if soft else _ALONE), *by_run, *_CPU]
        case "shortest":
            return [*_BY_RUN, *_CPU]
        case _:
            return [*_SUBMITTED, *_CPU]


def _select(
    db: sqlite3.Connection,
    part: Slice,
    now: float,
    boot: float,
    size: int,
    values: Sequence[str] = (),
) -> list[sqlite3.Row]:
    only = f" AND {part.only}" if part.only else ""
    found: list[sqlite3.Row] = db.execute(
        "SELECT jobs.id, jobs.priority, jobs.gpus, submitted_at, begin_at, array_id, array_limit, attempt,"
        " jobs.user, project, queue, time_limit_s, preemptible, urgent, predicted_s, gpu_ms, order_at, lane,"
        " due_at, alone_at, short_s, gpu_type, gpu_memory_bytes, exclusive"
        f" FROM jobs INDEXED BY {part.by}"
        f" WHERE state = 'pending' AND held = 0 AND deps_waiting = 0 AND deps_failed = 0{only}"
        " AND (backoff_boot IS NULL OR backoff_boot <= ?) AND (begin_at IS NULL OR begin_at <= ?)"
        f" ORDER BY {part.order}, id LIMIT ?",
        (*values, boot, now, size),
    ).fetchall()
    return found


def ready(
    db: sqlite3.Connection,
    *,
    now: float,
    boot: float,
    window: int,
    policy: planner.Policy = _DEFAULT,
    running: Sequence[planner.Running] = (),
    without_gpus: bool = False,
) -> list[planner.Waiting]:
    """The jobs that may start and that `policy` has to see, about `window` of them: for each of its orders
    the first by an index (migration 0009), and the first of each owner. The indexes are named, because SQLite
    would rather take all pending jobs by state and sort them."""
    return _look(db, now, boot, window, list(_CPU) if without_gpus else slices(db, policy, running))[0]


class _Seen(NamedTuple):
    """Whether a look saw all jobs that may start: those that need GPUs, and those that need none."""

    gpu_jobs: bool
    cpu_jobs: bool


def _look(
    db: sqlite3.Connection, now: float, boot: float, window: int, parts: Sequence[Slice]
) -> tuple[list[planner.Waiting], _Seen]:
    """The jobs of a window, and whether those are all."""
    borrowers = {row["name"] for row in db.execute("SELECT name FROM queues WHERE borrow = 1")}
    found: dict[int, sqlite3.Row] = {}
    cut = {False: False, True: False}
    for part in parts:
        size = max(1, round(window * part.part))
        some = _select(db, part, now, boot, size)
        cut[part in _CPU] |= len(some) == size and part.part > 0
        found |= {row["id"]: row for row in some}
    if cut[False] or (cut[True] and any(part not in _CPU for part in parts)):
        found |= {row["id"]: row for row in _first_of_each(db, now, boot, window)}
    seen = _Seen(gpu_jobs=not cut[False], cpu_jobs=not cut[True])
    return [_waiting(db, row, borrowers) for row in found.values()], seen


def _first_of_each(db: sqlite3.Connection, now: float, boot: float, window: int) -> list[sqlite3.Row]:
    """The first jobs of each owner, however deep others have filled the queue; without those of arrays that
    may start no further member now."""
    everyone = owners.waiting(db, now)
    full = owners.full_arrays(db)
    if len(everyone) < 2 and not full:
        return []
    only = owners.OF_OWNER
    if full:
        only += f" AND (array_id IS NULL OR array_id NOT IN ({', '.join(map(str, full))}))"
    size = max(2, window // (4 * max(1, len(everyone))))
    part = Slice("jobs_by_owner", "order_at", 0.25, only)
    return [row for owner in everyone for row in _select(db, part, now, boot, size, owners.key(owner))]


def _waiting(db: sqlite3.Connection, row: sqlite3.Row, borrowers: set[str]) -> planner.Waiting:
    cost = None
    if row["preemptible"]:
        cost = db.execute(
            "SELECT runs.eviction_cost_s FROM jobs JOIN runs ON runs.user = jobs.user"
            " AND runs.signature = jobs.signature AND runs.gpus = jobs.gpus WHERE jobs.id = ?",
            (row["id"],),
        ).fetchone()
    return planner.Waiting(
        id=row["id"],
        priority=row["priority"],
        gpus=row["gpus"],
        since=max(row["submitted_at"], row["begin_at"] or 0.0),
        user=row["user"],
        project=row["project"],
        queue=row["queue"],
        gpu_type=row["gpu_type"],
        gpu_memory_bytes=row["gpu_memory_bytes"],
        exclusive=bool(row["exclusive"]),
        borrow=row["queue"] in borrowers,
        array_id=row["array_id"],
        array_limit=row["array_limit"],
        avoid=_failed_on(db, row["id"]) if row["attempt"] else (),
        preemptible=bool(row["preemptible"]),
        urgent=bool(row["urgent"]),
        limit_s=row["time_limit_s"],
        predicted_s=row["predicted_s"],
        attained_gpu_s=row["gpu_ms"] / 1000,
        eviction_cost_s=cost["eviction_cost_s"] if cost is not None else None,
        rank=(row["order_at"], row["lane"], row["due_at"], row["alone_at"], row["short_s"]),
    )


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """Who starts now and who makes room, and what the queue is like for GPUs that stay free (None: none
    does). `recalled` is what the last plan had passed on."""

    plan: planner.Plan
    recalled: planner.Memory
    demand: tuple[Demand, str] | None = None

    @property
    def starts(self) -> Sequence[planner.Start]:
        """Who starts now."""
        return self.plan.starts


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds what, the rules, and what the last plan passed on."""

    running: Sequence[planner.Running]
    gpus: Sequence[Gpu]
    policy: planner.Policy
    memory: planner.Memory


def scene(db: sqlite3.Connection, sick: Mapping[str, str], policy: planner.Policy) -> Scene:
    """The machine as it is."""
    running, gpus = holders(db, sick)
    return Scene(running=running, gpus=gpus, policy=rules(db, policy), memory=recall(db))


def decide(
    db: sqlite3.Connection,
    *,
    now: float,
    boot: float,
    sick: Mapping[str, str],
    cpu_slots: int,
    policy: planner.Policy,
) -> Decided:
    """Who starts now and who makes room (:func:`decide_on`)."""
    return decide_on(db, scene(db, sick, policy), now=now, boot=boot, cpu_slots=cpu_slots)


def decide_on(db: sqlite3.Connection, scene: Scene, *, now: float, boot: float, cpu_slots: int) -> Decided:
    """Who starts now and who makes room. A job's turn does not depend on those after it, so a short look at
    the queue is enough while it fills the machine; a longer one follows only where there is room left.
    Reads only; what the plan remembers is for :func:`remember`."""
    running, gpus, policy, memory = scene.running, scene.gpus, scene.policy, scene.memory
    free = planner.room(running, gpus, cpu_slots)
    decided = Decided(plan=planner.Plan(starts=(), waits={}, memory=memory), recalled=memory)
    # under any policy: a queue may ask for its own GPUs back
    movable = any(job.preemptible and not job.stopping for job in running)
    some = free.gpus > 0 or free.shared or movable
    parts = slices(db, policy, running) if some else list(_CPU)
    for window in (SHORT_WINDOW, WINDOW) if free or movable else ():
        waiting, seen = _look(db, now, boot, window, parts)
        waiting = in_fairness(db, waiting, policy.fairness, now=now, boot=boot)
        plan = planner.plan(waiting, running, gpus, cpu_slots, now, policy, memory, explain=None)
        left = planner.room(running, gpus, cpu_slots, plan.starts)
        decided = Decided(
            plan=plan,
            recalled=memory,
            demand=demand(waiting, plan.waits, left.gpus, plan.reservations) if left.gpus else None,
        )
        if not ((left.gpus or left.shared) and not seen.gpu_jobs) and not (left.slots and not seen.cpu_jobs):
            break
    return decided


def first(db: sqlite3.Connection, scene: Scene, *, now: float, boot: float) -> list[planner.Waiting]:
    """The first of those that may start, as a short look sees them."""
    waiting, _ = _look(db, now, boot, SHORT_WINDOW, slices(db, scene.policy, scene.running))
    return in_fairness(db, waiting, scene.policy.fairness, now=now, boot=boot)


def next_in_line(
    scene: Scene, waiting: Sequence[planner.Waiting], *, now: float, cpu_slots: int, places: int
) -> list[int]:
    """The ids of about `places` jobs that are likely to start next: those that the policy would start on an
    empty machine, and then those that it would start after them."""
    found: list[int] = []
    while waiting and len(found) < places:
        plan = planner.plan(
            waiting, (), scene.gpus, cpu_slots, now, scene.policy, scene.memory, explain=False
        )
        starts = {start.id for start in plan.starts}
        if not starts:
            break
        found += [start.id for start in plan.starts]
        waiting = [job for job in waiting if job.id not in starts]
    return found[:places]


def recall(db: sqlite3.Connection) -> planner.Memory:
    """What the last plan passed on."""
    row = db.execute("SELECT value FROM meta WHERE key = 'planner_memory'").fetchone()
    return planner.Memory() if row is None else _memory.decode(row["value"])


def remember(db: sqlite3.Connection, memory: planner.Memory) -> None:
    """Keeps what this plan passes on to the next."""
    text = msgspec.json.encode(memory).decode()
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('planner_memory', ?)", (text,))


def device(gpu: gpu_rows.KnownGpu, sick: Mapping[str, str]) -> Gpu:
    """A device as the planner sees it."""
    why_not = f"drained: {gpu.drain_reason}" if gpu.drained else sick.get(gpu.uuid, "")
    return Gpu(
        uuid=gpu.uuid,
        index=gpu.index,
        name=gpu.name,
        memory_bytes=gpu.memory_bytes,
        schedulable=not why_not,
        why_not=why_not,
        numa_node=gpu.numa_node,
        links=gpu.links,
        mig=gpu.mig,
        board=gpu.board,
        owner=gpu.owner,
        lend=gpu.lend,
    )


def _failed_on(db: sqlite3.Connection, job_id: int) -> list[str]:
    """GPUs of the newest attempt, if it died of GPU trouble."""
    row = db.execute(
        "SELECT * FROM attempts WHERE job_id = ? ORDER BY number DESC LIMIT 1", (job_id,)
    ).fetchone()
    if row is None or row["class"] not in _GPU_TROUBLE:
        return []
    return [gpu.uuid for gpu in rows.attempt(row).gpus]


def next_wake(db: sqlite3.Connection, *, now: float, boot: float) -> float | None:
    """Seconds until the next back-off or begin time is over; None when there is none."""
    backoff = db.execute(
        "SELECT min(backoff_boot) FROM jobs INDEXED BY jobs_backoff"
        " WHERE state = 'pending' AND held = 0 AND backoff_boot > ?",
        (boot,),
    ).fetchone()[0]
    begin = db.execute(
        "SELECT min(begin_at) FROM jobs INDEXED BY jobs_begin"
        " WHERE state = 'pending' AND held = 0 AND begin_at > ?",
        (now,),
    ).fetchone()[0]
    waits = [backoff - boot] if backoff is not None else []
    if begin is not None:
        waits.append(begin - now)
    return min(waits) if waits else None


def stops(db: sqlite3.Connection) -> list[tuple[str, str, float]]:
    """(attempt id, reason, grace in seconds) of the attempts that have to stop."""
    return [
        (row["id"], row["stop_reason"], row["stop_grace_s"] or 0.0)
        for row in db.execute(
            # CROSS: from the few live jobs to their attempts; SQLite would rather look through all attempts
            "SELECT attempts.* FROM jobs INDEXED BY jobs_live CROSS JOIN attempts"
            " ON attempts.job_id = jobs.id AND attempts.state <> 'ended'"
            " WHERE jobs.state IN ('starting', 'running', 'stopping') AND jobs.state = 'stopping'"
            " AND attempts.state = 'stopping'"
        )
    ]


def new_boot(db: sqlite3.Connection, boot_id: str, *, now: float, boot: float) -> bool:
    """Notes the boot id; after a reboot, carries back-offs over from wall time to the new boot's clock.
    Whether the machine was restarted."""
    row = db.execute("SELECT value FROM meta WHERE key = 'boot_id'").fetchone()
    if row is not None and row["value"] == boot_id:
        return False
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('boot_id', ?)", (boot_id,))
    db.execute(
        # a wall clock that was set in between must not make years of it: never longer than a back-off can be
        "UPDATE jobs INDEXED BY jobs_backoff SET backoff_boot = ? + min(max(0, backoff_at - ?),"
        " max(60, coalesce(json_extract(spec, '$.retry_max_delay_s'), 0)))"
        " WHERE state = 'pending' AND backoff_boot IS NOT NULL AND backoff_at IS NOT NULL",
        (boot, now),
    )
    return row is not None


def why_not_ready(job: Job, *, now: float, boot: float) -> planner.Wait | None:
    """Why a pending job is not even in the planner's window; None when only the planner can tell."""
    if job.held:
        return planner.Wait(reason=Reason.HELD, sentence=job.hold_reason or "held")
    if job.deps_failed:
        return planner.Wait(
            reason=Reason.DEPENDENCY_NEVER, sentence="a job that it waits for did not end as it needs"
        )
    if job.deps_waiting:
        jobs = "job" if job.deps_waiting == 1 else "jobs"
        return planner.Wait(reason=Reason.DEPENDENCY, sentence=f"waits for {job.deps_waiting} other {jobs}")
    if job.backoff_boot is not None and job.backoff_boot > boot:
        left = job.backoff_boot - boot
        return planner.Wait(
            reason=Reason.BACKOFF,
            sentence=f"retry in {left:.0f} s after attempt {job.attempt}: {job.explanation or 'it failed'}",
        )
    if job.begin_at is not None and job.begin_at > now:
        return planner.Wait(reason=Reason.BEGIN_TIME, sentence=f"begins in {job.begin_at - now:.0f} s")
    return None
