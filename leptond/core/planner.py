"""Who starts now, on which GPUs, and why the others wait: values in, decisions out.

The order is priority, then submission. A job that does not fit is passed over by later ones that do, so
that no GPU idles while work that fits it waits; a job that has been passed over for too long keeps the
GPUs that come free until it fits (the bounded wait).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from leptond.core.model import Gpu, Reason
from leptond.core.placement import Need, Occupancy, choose


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """`max_bypass_s`: how long a job may be passed over before GPUs are kept for it."""

    max_bypass_s: float = 3600.0
    paused: bool = False


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A pending job that could start, as far as it alone is concerned. `since` is when it became able to
    (wall time); `avoid` names a GPU that an earlier attempt failed on."""

    id: int
    priority: int
    gpus: int
    since: float
    array_id: int | None = None
    array_limit: int | None = None
    avoid: Sequence[str] = ()


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A job that holds GPUs (by UUID) or, with none, a CPU slot."""

    id: int
    gpus: Sequence[str]
    array_id: int | None = None


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Start job `id` on these GPUs (UUIDs; none: in a CPU slot)."""

    id: int
    gpus: Sequence[str]


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job does not start: a reason of the closed list, and one sentence that names what is in the
    way. `blockers` are the ids of jobs that stand before it."""

    reason: Reason
    sentence: str
    blockers: Sequence[int] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`starts` in order; `waits` has an entry for every other job of the window."""

    starts: Sequence[Start]
    waits: Mapping[int, Wait]


def order(job: Waiting) -> tuple[int, int]:
    """Sorting key: higher priority first, then the order of submission."""
    return (-job.priority, job.id)


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What is free: GPUs in service that nobody holds, and CPU slots."""

    gpus: int
    slots: int

    def __bool__(self) -> bool:
        return self.gpus > 0 or self.slots > 0


def room(
    running: Sequence[Running], gpus: Sequence[Gpu], cpu_slots: int, starts: Sequence[Start] = ()
) -> Left:
    """What is free while `running` hold theirs, and after `starts`."""
    taken = {uuid for job in running for uuid in job.gpus} | {uuid for start in starts for uuid in start.gpus}
    in_slots = sum(1 for job in running if not job.gpus) + sum(1 for start in starts if not start.gpus)
    return Left(
        gpus=sum(1 for gpu in gpus if gpu.schedulable and gpu.uuid not in taken),
        slots=max(0, cpu_slots - in_slots),
    )


def plan(
    waiting: Sequence[Waiting],
    running: Sequence[Running],
    gpus: Sequence[Gpu],
    cpu_slots: int,
    now: float,
    policy: Policy,
) -> Plan:
    """The starts that are right at `now`. `waiting` may come in any order; `gpus` are all present ones."""
    in_use = {uuid: job.id for job in running for uuid in job.gpus}
    free = [gpu for gpu in gpus if gpu.schedulable and gpu.uuid not in in_use]
    usable = sum(1 for gpu in gpus if gpu.schedulable)
    slots = cpu_slots - sum(1 for job in running if not job.gpus)
    members: dict[int, int] = {}
    for holder in running:
        if holder.array_id is not None:
            members[holder.array_id] = members.get(holder.array_id, 0) + 1

    starts: list[Start] = []
    waits: dict[int, Wait] = {}
    passed_over: list[int] = []
    kept_for: Waiting | None = None
    for job in sorted(waiting, key=order):
        wait = (
            _paused(policy)
            or _array_full(job, members)
            or (_no_slot(slots, cpu_slots, running) if job.gpus == 0 else None)
            or (_no_gpus(job, free, usable, gpus, in_use, kept_for, passed_over) if job.gpus else None)
        )
        if wait is not None:
            waits[job.id] = wait
            if job.gpus and wait.reason in (Reason.RESOURCES, Reason.PRIORITY):
                passed_over.append(job.id)
                if kept_for is None and job.gpus <= usable and now - job.since >= policy.max_bypass_s:
                    kept_for = job
            continue
        chosen = choose(Need(gpus=job.gpus, avoid=job.avoid), Occupancy(free)) or []
        free = [gpu for gpu in free if gpu.uuid not in chosen]
        starts.append(Start(id=job.id, gpus=chosen))
        if job.gpus == 0:
            slots -= 1
        if job.array_id is not None:
            members[job.array_id] = members.get(job.array_id, 0) + 1
    return Plan(starts=starts, waits=waits)


def _paused(policy: Policy) -> Wait | None:
    if not policy.paused:
        return None
    return Wait(reason=Reason.PAUSED, sentence="the scheduler is paused")


def _array_full(job: Waiting, members: Mapping[int, int]) -> Wait | None:
    if job.array_id is None or job.array_limit is None:
        return None
    if members.get(job.array_id, 0) < job.array_limit:
        return None
    return Wait(
        reason=Reason.ARRAY_LIMIT,
        sentence=f"array {job.array_id} runs at most {job.array_limit} of its members at a time",
    )


def _no_slot(free_slots: int, all_slots: int, running: Sequence[Running]) -> Wait | None:
    if free_slots > 0:
        return None
    holders = [job.id for job in running if not job.gpus]
    return Wait(
        reason=Reason.RESOURCES,
        sentence=f"all {all_slots} CPU slots are taken{_by(holders)}",
        blockers=holders,
    )


def _no_gpus(
    job: Waiting,
    free: Sequence[Gpu],
    usable: int,
    gpus: Sequence[Gpu],
    in_use: Mapping[str, int],
    kept_for: Waiting | None,
    passed_over: Sequence[int],
) -> Wait | None:
    if job.gpus > usable:
        out = [f"GPU {gpu.index} ({gpu.why_not})" for gpu in gpus if not gpu.schedulable]
        return Wait(
            reason=_out_of_service(gpus),
            sentence=f"needs {_gpus(job.gpus)}, {usable} in service"
            + (f"; out: {', '.join(out)}" if out else ""),
        )
    if job.gpus > len(free):
        holders = sorted({in_use[gpu.uuid] for gpu in gpus if gpu.uuid in in_use})
        return Wait(
            reason=Reason.PRIORITY if passed_over and not free else Reason.RESOURCES,
            sentence=f"needs {_gpus(job.gpus)}, {len(free)} free{_by(holders)}",
            blockers=[*holders, *passed_over[:5]],
        )
    if kept_for is not None:
        return Wait(
            reason=Reason.PRIORITY,
            sentence=f"free GPUs are kept for job {kept_for.id}, which needs {_gpus(kept_for.gpus)}"
            " and has waited too long",
            blockers=[kept_for.id],
        )
    return None


def _out_of_service(gpus: Sequence[Gpu]) -> Reason:
    """Why too few GPUs are in service: people took them out, they are not well, or there are no more."""
    reasons = [gpu.why_not for gpu in gpus if not gpu.schedulable]
    if any(reason.startswith("drained") for reason in reasons):
        return Reason.DRAINING
    return Reason.GPU_UNHEALTHY if reasons else Reason.IMPOSSIBLE


def _gpus(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"


def _by(holders: Sequence[int]) -> str:
    if not holders:
        return ""
    names = ", ".join(str(job) for job in holders[:5]) + (", ..." if len(holders) > 5 else "")
    return f" (held by job{'' if len(holders) == 1 else 's'} {names})"
