"""Reasons why jobs wait: one of a closed list, and one sentence that names what is in the way."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from leptond.core.jobs.model import Gpu, Reason
from leptond.core.scheduling.inputs import Wait, Waiting
from leptond.core.scheduling.plan_builder import PREEMPTING_POLICIES, PlanBuilder


def wait_reasons(
    builder: PlanBuilder, jobs: Sequence[Waiting], refs: Mapping[int, str] | None = None
) -> dict[int, Wait]:
    """Return a reason for each of `jobs` that does not start, after the policy has made its moves. `refs`:
    what people call the members of arrays, by id."""
    refs = refs or {}
    if builder.policy.paused:
        wait = Wait(reason=Reason.PAUSED, sentence="the scheduler is paused")
        return {job.id: wait for job in jobs}
    found: dict[int, Wait] = {}
    claims = {claim.job.id: claim for claim in builder.pending_starts}
    holders = sorted({job.id for job in builder.running if job.gpus} | _started(builder))
    order = builder.by_due_time if builder.policy.name in PREEMPTING_POLICIES else builder.by_submit_time
    if builder.policy.name == "shortest":
        order = builder.by_expected_run
    ahead: list[int] = []
    for job in sorted(jobs, key=order):
        if job.id in claims:
            claim = claims[job.id]
            found[job.id] = Wait(
                reason=Reason.RESOURCES,
                sentence=f"starts as soon as {_jobs(claim.blockers, refs)} made room",
                blockers=claim.blockers,
            )
        elif job.id not in builder.placed:
            wait = _no_slot(builder, refs) if not job.gpus else _no_gpus(builder, job, holders, ahead, refs)
            found[job.id] = builder.blocking_limit(job) or wait
            if job.gpus and found[job.id].reason in (Reason.RESOURCES, Reason.PRIORITY) and len(ahead) < 5:
                ahead.append(job.id)
    return found


def unforeseen(names: Sequence[str]) -> str:
    """Say why a start cannot be foretold. `names`: running jobs of which nothing is known; none where the
    start is merely too far off.

    >>> unforeseen(["3", "7_1"])
    'jobs 3, 7_1 have no time limit and no history, so nobody can tell when they end'
    """
    if not names:
        return "too many jobs stand before it, or run for a time that nobody can tell"
    if len(names) == 1:
        return f"job {names[0]} has no time limit and no history, so nobody can tell when it ends"
    return f"jobs {', '.join(names)} have no time limit and no history, so nobody can tell when they end"


def _started(builder: PlanBuilder) -> set[int]:
    return {start.id for start in builder.starts if start.gpus}


def _no_slot(builder: PlanBuilder, refs: Mapping[int, str]) -> Wait:
    holders = [job.id for job in builder.running if not job.gpus]
    return Wait(
        reason=Reason.RESOURCES,
        sentence=f"all {builder.cpu_slots} CPU slots are taken{_by(holders, refs)}",
        blockers=holders,
    )


def _no_gpus(
    builder: PlanBuilder,
    job: Waiting,
    holders: Sequence[int],
    ahead: Sequence[int],
    refs: Mapping[int, str],
) -> Wait:
    if job.gpus > builder.usable:
        out = [f"GPU {gpu.index} ({gpu.why_not})" for gpu in builder.gpus if not gpu.schedulable]
        return Wait(
            reason=_out_of_service(builder.gpus),
            sentence=f"needs {_gpus(job.gpus)}, {builder.usable} in service"
            + (f"; out: {', '.join(out)}" if out else ""),
        )
    if not builder.constraints.fits_machine(job):
        return _not_possible(builder, job)
    plain = builder.constraints.accepts_any_gpu(job)
    free = len(builder.free if plain else builder.constraints.candidates(job))
    if not plain:
        holders = _holders_of(builder, builder.constraints.eligible_gpus(job))
    if job.gpus > free:
        held = builder.reservation
        reserved = held is not None and held.job.id == job.id and free
        return Wait(
            reason=Reason.PRIORITY if ahead and not free else Reason.RESOURCES,
            sentence=f"needs {_what(job)}, {free} free{', kept for it' if reserved else ''}"
            f"{_by(holders, refs)}{_withheld(builder, job)}",
            blockers=[*holders, *ahead],
        )
    if builder.reservation is not None:
        first = builder.reservation.job
        return Wait(
            reason=Reason.PRIORITY,
            sentence=f"free GPUs are kept for job {refs.get(first.id, first.id)}, which needs {_what(first)}"
            " and has waited too long",
            blockers=[first.id],
        )
    return Wait(reason=Reason.RESOURCES, sentence=f"none of the free GPUs suits it{_by(holders, refs)}")


def _not_possible(builder: PlanBuilder, job: Waiting) -> Wait:
    """Say that its queue can have too few GPUs of the kind that it needs."""
    count = len(builder.constraints.eligible_gpus(job))
    return Wait(
        reason=_out_of_service(builder.gpus),
        sentence=f"needs {_what(job)}, of which the queue {job.queue} can have {count}"
        f"{_withheld(builder, job)}",
    )


def _what(job: Waiting) -> str:
    """Describe what a job needs of its GPUs."""
    kind = f" of type {job.gpu_type}" if job.gpu_type is not None else ""
    carried = job.gpu_memory_bytes
    size = "" if carried is None else f" with {carried / 1024**3:g} GiB{'' if job.exclusive else ' free'}"
    return f"{_gpus(job.gpus)}{kind}{size}"


def _withheld(builder: PlanBuilder, job: Waiting) -> str:
    """Name the idle GPUs that the job may not have, and the queues that own them."""
    found: dict[str, list[int]] = {}
    for gpu in builder.constraints.withheld(job):
        found.setdefault(gpu.owner or "", []).append(gpu.index)
    return "".join(
        f"; {'GPU' if len(indices) == 1 else 'GPUs'} {', '.join(map(str, indices))} belong"
        f"{'s' if len(indices) == 1 else ''} to the queue {owner}"
        + (", which has jobs waiting" if job.borrow and builder.constraints.has_startable_jobs(owner) else "")
        for owner, indices in sorted(found.items())
    )


def _holders_of(builder: PlanBuilder, uuids: Collection[str]) -> list[int]:
    """Return the jobs that hold any of these GPUs, or start on them now."""
    found = {one.id for uuid in uuids for one in builder.holders.get(uuid, ())}
    found |= {start.id for start in builder.starts if set(start.gpus).intersection(uuids)}
    return sorted(found)


def _out_of_service(gpus: Sequence[Gpu]) -> Reason:
    """Return why too few GPUs are in service: drained, unhealthy, or there are no more."""
    reasons = [gpu.why_not for gpu in gpus if not gpu.schedulable]
    if any(reason.startswith("drained") for reason in reasons):
        return Reason.DRAINING
    return Reason.GPU_UNHEALTHY if reasons else Reason.IMPOSSIBLE


def _gpus(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"


def _listed(numbers: Sequence[int], refs: Mapping[int, str]) -> str:
    named = ", ".join(refs.get(number, str(number)) for number in numbers[:5])
    return named + (", ..." if len(numbers) > 5 else "")


def _jobs(numbers: Sequence[int], refs: Mapping[int, str]) -> str:
    if len(numbers) == 1:
        return f"job {_listed(numbers, refs)} has"
    return f"jobs {_listed(numbers, refs)} have"


def _by(holders: Sequence[int], refs: Mapping[int, str]) -> str:
    if not holders:
        return ""
    names = _listed(holders, refs)
    return f" (held by job{'' if len(holders) == 1 else 's'} {names})"
