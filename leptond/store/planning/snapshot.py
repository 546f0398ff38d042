"""The planner's input and its decision from one snapshot of the database: waiting jobs, running jobs, GPUs,
rules in force. The decision is carried out in commit_plan.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from leptond.core.accounting.ledger import IdleCause
from leptond.core.jobs import elapsed
from leptond.core.jobs.model import Gpu, Job, Reason
from leptond.core.jobs.states import AttemptState, State
from leptond.core.jobs.timespec import format_duration
from leptond.core.scheduling import planner
from leptond.core.scheduling.fair_share import Fairness, UsageOwner, handicaps
from leptond.core.scheduling.idle_cause import idle_cause
from leptond.core.scheduling.inputs import PlanInput
from leptond.store.database.conditions import ATTEMPT_LIVES, IS_LIVE, IS_PENDING
from leptond.store.planning import candidates
from leptond.store.planning.candidates import SHORT_WINDOW, WINDOW
from leptond.store.queue import fair_share, lists
from leptond.store.queue import gpus as gpu_rows

_memory = msgspec.json.Decoder(planner.CarriedState)

NO_FAIRNESS = Fairness(max_handicap_s=0.0)

_DEFAULT = planner.Policy()


def plan_input(
    db: sqlite3.Connection,
    *,
    now: float,
    boot: float,
    unhealthy: Mapping[str, str],
    cpu_slots: int,
    policy: planner.Policy = _DEFAULT,
    window: int = WINDOW,
) -> PlanInput:
    """The queue and the machine: the first jobs that may start, about `window` of those that need GPUs and of
    those that need none, all running ones and the present GPUs. `unhealthy` has the UUIDs of devices that do
    not answer, with the reason."""
    machine = plan_machine(db, now=now, boot=boot, unhealthy=unhealthy, cpu_slots=cpu_slots, policy=policy)
    found = candidates.find(db, machine, boot=boot, gpu=window, cpu=window)
    return with_waiting(machine, in_fairness(db, found.jobs, machine.policy.fairness, now=now, boot=boot))


def plan_machine(
    db: sqlite3.Connection,
    *,
    now: float,
    boot: float,
    unhealthy: Mapping[str, str],
    cpu_slots: int,
    policy: planner.Policy,
) -> PlanInput:
    """The machine without the queue: holders, GPUs, the rules in force, and what the last plan passed on."""
    running, gpus = holders(db, unhealthy, now=now, boot=boot)
    return PlanInput(
        running=running,
        gpus=gpus,
        cpu_slots=cpu_slots,
        now=now,
        policy=rules(db, policy),
        carried=recall(db),
    )


def with_waiting(machine: PlanInput, waiting: Sequence[planner.Waiting]) -> PlanInput:
    """The same machine with these jobs to choose from."""
    return msgspec.structs.replace(machine, waiting=waiting)


def rules(db: sqlite3.Connection, policy: planner.Policy) -> planner.Policy:
    """The policy with the caps of single users and projects that are set now."""
    return msgspec.structs.replace(policy, limits=fair_share.limits(db, policy.limits))


def in_fairness(
    db: sqlite3.Connection,
    waiting: list[planner.Waiting],
    fairness: Fairness,
    *,
    now: float,
    boot: float,
    alone: bool = False,
) -> list[planner.Waiting]:
    """Return the jobs with what fair share makes of their places. `alone`: they are compared only with one
    another, so that it makes no difference where all have one owner."""
    if fairness.max_handicap_s <= 0 or not waiting:
        return waiting
    owners = {job.id: UsageOwner(job.user, job.project, job.queue) for job in waiting}
    if alone and len(set(owners.values())) == 1:
        return waiting
    used = fair_share.used(db, now=now, boot=boot)
    found = handicaps(used, set(owners.values()), fair_share.weights(db), fairness)
    if not any(found.values()):
        return waiting
    return [msgspec.structs.replace(job, handicap_s=found[owners[job.id]]) for job in waiting]


class _HolderRow(NamedTuple):
    """A running job with its attempt and the cost of evicting jobs like it."""

    id: int
    array_id: int | None
    user: str
    project: str | None
    queue: str
    gpu_memory_bytes: int | None
    exclusive: int
    priority: int
    submitted_at: float
    begin_at: float | None
    claimed_at: float
    claimed_boot: float
    preemptible: int
    urgent: int
    state: str
    time_limit_s: float | None
    predicted_s: float | None
    gpu_ms: int
    eviction_cost_s: float | None


_TABLE = {"id": "jobs", "user": "jobs", "state": "attempts", "gpu_ms": "jobs"}
"""The table of each column that more than one of the joined tables has."""

_HOLDER_COLUMNS = ", ".join(
    f"{_TABLE[name]}.{name}" if name in _TABLE else name for name in _HolderRow._fields
)


def holders(
    db: sqlite3.Connection, unhealthy: Mapping[str, str], *, now: float, boot: float
) -> tuple[list[planner.Running], list[Gpu]]:
    """Running jobs with what they hold (index jobs_live, migration 0001), and the present GPUs."""
    held: dict[int, list[str]] = {}
    devices = gpu_rows.known(db)
    for gpu in devices:
        for lease in gpu.leases:
            held.setdefault(lease.job_id, []).append(gpu.uuid)
    cursor = db.cursor()
    cursor.row_factory = None
    found = cursor.execute(
        f"SELECT {_HOLDER_COLUMNS} FROM jobs INDEXED BY jobs_live"
        " JOIN attempts ON attempts.job_id = jobs.id AND attempts.number = jobs.attempt"
        " LEFT JOIN runs ON runs.user = jobs.user AND runs.signature = jobs.signature"
        " AND runs.gpus = jobs.gpus"
        f" WHERE jobs.{IS_LIVE} ORDER BY jobs.id"
    )
    running = [_running(row, held, now=now, boot=boot) for row in map(_HolderRow._make, found)]
    return running, [device(gpu, unhealthy) for gpu in devices if gpu.present]


def _running(row: _HolderRow, held: Mapping[int, list[str]], *, now: float, boot: float) -> planner.Running:
    return planner.Running(
        id=row.id,
        gpus=held.get(row.id, []),
        array_id=row.array_id,
        user=row.user,
        project=row.project,
        queue=row.queue,
        share_bytes=None if row.exclusive else row.gpu_memory_bytes,
        exclusive=bool(row.exclusive),
        priority=row.priority,
        since=max(row.submitted_at, row.begin_at or 0.0),
        started_at=elapsed.since(row.claimed_at, row.claimed_boot, now=now, boot=boot),
        preemptible=bool(row.preemptible) and row.state != State.STARTING,
        urgent=bool(row.urgent),
        stopping=row.state == State.STOPPING,
        limit_s=row.time_limit_s,
        predicted_s=row.predicted_s,
        attained_gpu_s=row.gpu_ms / 1000,
        eviction_cost_s=row.eviction_cost_s,
    )


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """The plan for this moment, and what the queue is like for GPUs that stay free (None: none does).
    `recalled` is what the last plan had passed on."""

    plan: planner.Plan
    recalled: planner.CarriedState
    idle_cause: tuple[IdleCause, str] | None = None

    @property
    def empty(self) -> bool:
        """True if there is nothing to carry out or to remember."""
        plan = self.plan
        return not (plan.starts or plan.preempts or plan.carried != self.recalled)

    @property
    def starts(self) -> Sequence[planner.Start]:
        """The starts of the plan."""
        return self.plan.starts


def decide(
    db: sqlite3.Connection,
    *,
    now: float,
    boot: float,
    unhealthy: Mapping[str, str],
    cpu_slots: int,
    policy: planner.Policy,
) -> Decided:
    """Read the machine, and plan for it (:func:`decide_on`)."""
    machine = plan_machine(db, now=now, boot=boot, unhealthy=unhealthy, cpu_slots=cpu_slots, policy=policy)
    return decide_on(db, machine, boot=boot)


def decide_on(db: sqlite3.Connection, machine: PlanInput, *, boot: float) -> Decided:
    """Plan the starts and preemptions that are due now. Whether a job starts does not depend on those after
    it, so a short window of the queue is enough while it fills the machine; a longer one follows only where
    GPUs or slots are left. Reads only; what the plan passes on is for :func:`remember`."""
    carried, now, fairness = machine.carried, machine.now, machine.policy.fairness
    free = machine.free_capacity()
    decided = Decided(plan=planner.Plan(starts=(), waits={}, carried=carried), recalled=carried)
    # under any policy: a queue may ask for its own GPUs back
    movable = any(job.preemptible and not job.stopping for job in machine.running)
    some = free.gpus > 0 or free.shared > 0 or movable
    few = min(SHORT_WINDOW, 4 * (free.slots + 1))  # in their order, for there is nothing else to fit
    for gpu, cpu in ((SHORT_WINDOW, few), (WINDOW, WINDOW)) if free or movable else ():
        found = candidates.find(db, machine, boot=boot, gpu=gpu if some else 0, cpu=cpu if free.slots else 0)
        waiting = in_fairness(db, found.jobs, fairness, now=now, boot=boot, alone=not movable)
        plan = planner.plan(with_waiting(machine, waiting), explain=None)
        left = machine.free_capacity(plan.starts)
        cause = None
        if left.gpus:
            keepers = lists.refs(db, [one.id for one in plan.reservations])
            cause = idle_cause(waiting, plan.waits, left.gpus, plan.reservations, keepers)
        decided = Decided(plan=plan, recalled=carried, idle_cause=cause)
        if not ((left.gpus or left.shared) and not found.all_gpu) and not (left.slots and not found.all_cpu):
            break
    return decided


def any_held(db: sqlite3.Connection) -> bool:
    """Return True if any GPU is leased."""
    return db.execute("SELECT 1 FROM leases LIMIT 1").fetchone() is not None


def sole_holders(running: Sequence[planner.Running]) -> list[planner.Running]:
    """The jobs whose GPUs, all of them, come free when they end."""
    return [
        job for job in running if job.gpus and not job.stopping and (job.share_bytes is None or job.exclusive)
    ]


def first_waiting(db: sqlite3.Connection, machine: PlanInput, *, boot: float) -> PlanInput:
    """The machine with the first jobs that may start: a short window of the queue."""
    found = candidates.find(db, machine, boot=boot, gpu=SHORT_WINDOW, cpu=SHORT_WINDOW)
    movable = any(job.preemptible for job in machine.running)
    fairness = machine.policy.fairness
    waiting = in_fairness(db, found.jobs, fairness, now=machine.now, boot=boot, alone=not movable)
    return with_waiting(machine, waiting)


def next_in_line(inputs: PlanInput, *, places: int) -> list[int]:
    """The ids of about `places` jobs that are likely to start next: those that the policy would start on an
    empty machine, and then those that it would start after them."""
    found: list[int] = []
    empty = msgspec.structs.replace(inputs, running=())
    while empty.waiting and len(found) < places:
        plan = planner.plan(empty, explain=False)
        starts = {start.id for start in plan.starts}
        if not starts:
            break
        found += [start.id for start in plan.starts]
        empty = with_waiting(empty, [job for job in empty.waiting if job.id not in starts])
    return found[:places]


def recall(db: sqlite3.Connection) -> planner.CarriedState:
    """Return what the last plan passed on."""
    row = db.execute("SELECT value FROM meta WHERE key = 'planner_memory'").fetchone()
    return planner.CarriedState() if row is None else _memory.decode(row["value"])


def remember(db: sqlite3.Connection, carried: planner.CarriedState) -> None:
    """Keep what this plan passes on to the next."""
    text = msgspec.json.encode(carried).decode()
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('planner_memory', ?)", (text,))


def device(gpu: gpu_rows.KnownGpu, unhealthy: Mapping[str, str]) -> Gpu:
    """A device as the planner sees it."""
    why_not = f"drained: {gpu.drain_reason}" if gpu.drained else unhealthy.get(gpu.uuid, "")
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


def next_wake(db: sqlite3.Connection, *, now: float, boot: float) -> float | None:
    """Seconds until the next back-off or begin time is over; None when there is none."""
    backoff = db.execute(
        "SELECT min(backoff_boot) FROM jobs INDEXED BY jobs_backoff"
        f" WHERE {IS_PENDING} AND held = 0 AND backoff_boot > ?",
        (boot,),
    ).fetchone()[0]
    begin = db.execute(
        "SELECT min(begin_at) FROM jobs INDEXED BY jobs_begin"
        f" WHERE {IS_PENDING} AND held = 0 AND begin_at > ?",
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
            f" ON attempts.job_id = jobs.id AND attempts.{ATTEMPT_LIVES}"
            f" WHERE jobs.{IS_LIVE} AND jobs.state = '{State.STOPPING}'"
            f" AND attempts.state = '{AttemptState.STOPPING}'"
        )
    ]


def new_boot(db: sqlite3.Connection, boot_id: str, *, now: float, boot: float) -> bool:
    """Note the boot id; after a reboot, carry back-offs over from wall time to the new boot's clock.
    True if the machine was restarted."""
    row = db.execute("SELECT value FROM meta WHERE key = 'boot_id'").fetchone()
    if row is not None and row["value"] == boot_id:
        return False
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('boot_id', ?)", (boot_id,))
    db.execute(
        # a wall clock that was set in between must not make years of it: never longer than a back-off can be
        "UPDATE jobs INDEXED BY jobs_backoff SET backoff_boot = ? + min(max(0, backoff_at - ?),"
        " max(60, coalesce(json_extract(spec, '$.retry_max_delay_s'), 0)))"
        f" WHERE {IS_PENDING} AND backoff_boot IS NOT NULL AND backoff_at IS NOT NULL",
        (boot, now),
    )
    return row is not None


def why_not_ready(job: Job, *, now: float, boot: float) -> planner.Wait | None:
    """Return why a pending job is not even in the planner's window; None if only the planner knows."""
    if job.never_cause is not None:  # also of a held job: a release would not start it
        return planner.Wait(
            reason=Reason.DEPENDENCY_NEVER,
            sentence="a job that it waits for did not end as it needs",
            blockers=[job.never_cause],
        )
    if job.held:
        return planner.Wait(reason=Reason.HELD, sentence=job.hold_reason or "held")
    if job.deps_waiting:
        jobs = "job" if job.deps_waiting == 1 else "jobs"
        return planner.Wait(reason=Reason.DEPENDENCY, sentence=f"waits for {job.deps_waiting} other {jobs}")
    if job.backoff_boot is not None and job.backoff_boot > boot:
        left = format_duration(job.backoff_boot - boot)
        return planner.Wait(
            reason=Reason.BACKOFF,
            sentence=f"retry in {left} after attempt {job.attempt}: {job.explanation or 'it failed'}",
        )
    if job.begin_at is not None and job.begin_at > now:
        return planner.Wait(
            reason=Reason.BEGIN_TIME, sentence=f"begins in {format_duration(job.begin_at - now)}"
        )
    return None
