"""After a start, before anything is scheduled: database, attempt directories, /proc and cgroups are made to
agree. What still runs is adopted, what has ended is recorded, what is left without supervision is killed.

:func:`settle` comes first, then :func:`reconcile` (see daemon/assembly.py)."""

from __future__ import annotations

import structlog

from leptond.base import failpoints
from leptond.base.clock import Clock
from leptond.core.jobs.model import ExitRecord
from leptond.core.outcome.evidence import End
from leptond.engines.base import Engine, Taken
from leptond.engines.procs import TAG_DIGITS
from leptond.scheduling.supervisor import Supervisor
from leptond.store import Store
from leptond.store.planning import commit_plan, snapshot, successors
from leptond.store.queue import attempts

log = structlog.get_logger("leptond.reconcile")


async def reconcile(store: Store, engine: Engine, supervisor: Supervisor, clock: Clock) -> int:
    """Take over what earlier daemons have started. Returns how many running attempts were adopted.

    The gate of an attempt whose shim is not known to the database was never opened (that comes only after the
    commit which stores it), so its command never started, whatever its directory holds. One whose shim lives
    is followed again. One whose shim has gone is over: its record tells how, and without a record whatever is
    left of it is killed before its GPUs are given on.
    """
    if await store.write(snapshot.new_boot, clock.boot_id, now=clock.wall(), boot=clock.boot()):
        log.info("machine.restarted")
    failpoints.fp("reconcile_begin")
    adopted = 0
    live = await store.read(attempts.live)
    for claim in live:
        job, attempt = claim.job, claim.attempt
        if attempt.shim is None:
            never = ExitRecord(attempt_id=attempt.id, boot_id=attempt.boot_id, never_started=True)
            await supervisor.finish(job, attempt, End(record=never))
            failpoints.fp("reconcile_never_started")
        elif engine.adopt(attempt):
            adopted += 1
            log.info("attempt.adopted", job=job.id, attempt=attempt.number, shim=attempt.shim.pid)
            supervisor.follow(claim)
            failpoints.fp("reconcile_adopted")
            if job.tuned:
                engine.push_knobs(job, attempt)  # the last daemon may have been killed before it did
        else:
            # may take a while where processes have to be ended: its GPUs stay leased meanwhile
            supervisor.follow(claim)
            failpoints.fp("reconcile_ended")
    await engine.clear_standby({claim.attempt.id for claim in live})
    await _end_orphans(store, engine, {claim.attempt.id for claim in live})
    failpoints.fp("reconcile_done")
    return adopted


async def settle(store: Store, engine: Engine, supervisor: Supervisor, clock: Clock) -> None:
    """Claim the attempts that have started without a daemon, in their order: each after the end of the one
    whose slot it took, which is over, and recorded first."""
    started: list[tuple[successors.NamedSuccessor, Taken]] = []
    for one in await store.read(successors.named):
        taken = await engine.taken(one.attempt_id, one.job_id, one.number, one.shim)
        if taken is not None:
            started.append((one, taken))
    while started:
        live = {claim.attempt.id: claim for claim in await store.read(attempts.live)}
        ready = [one for one in started if one[1].after is None or one[1].after in live]
        # else the one before it is recorded, or was lost with what it had taken over from
        one, taken = min(ready or started, key=lambda each: each[1].claimed_boot)
        started.remove((one, taken))
        failpoints.fp("settle_started")
        for claim in live.values():
            same = {gpu.uuid for gpu in claim.attempt.gpus} == set(taken.gpus)
            if claim.attempt.id == taken.after or (taken.after is None and same):
                await supervisor.see_out(claim)
        await _claim_late(store, engine, clock, one, taken)
    gone = [one.attempt_id for one in await store.read(successors.named)]
    await store.write(successors.unname, gone)


async def _claim_late(
    store: Store, engine: Engine, clock: Clock, one: successors.NamedSuccessor, taken: Taken
) -> None:
    """Claim an attempt that has started; one that the database does not allow is killed."""
    context = commit_plan.ClaimContext(now=taken.claimed_at, boot=taken.claimed_boot, boot_id=clock.boot_id)
    try:
        await store.write(successors.claim, one, taken.gpus, context)
        log.info("successor.claimed", job=one.job_id, attempt=one.number)
    except (successors.OutOfStep, LookupError) as error:
        log.error("successor.killed", job=one.job_id, attempt=one.number, error=str(error))
        await engine.end_orphan(one.attempt_id, one.job_id, one.number)


async def _end_orphans(store: Store, engine: Engine, live: set[str]) -> None:
    """Kill the processes of attempts that this database knows as ended. Attempts that it does not know may
    belong to another leptond on the machine."""
    found: set[str] = set()
    for beginning in (one for one in engine.orphans() if len(one) >= TAG_DIGITS):
        found |= set(await store.read(attempts.ids_like, beginning))
    for attempt_id in sorted(found - live):
        attempt = await store.read(attempts.get, attempt_id)
        log.warning("orphan.killed", job=attempt.job_id, attempt=attempt.number)
        await engine.end_orphan(attempt_id, attempt.job_id, attempt.number)
