"""An attempt from its claim to its end: the start protocol, the wait, the verdict. The order of the steps is
what makes "never two live copies" true; see docs/concepts.md.

Before it: a scheduling pass (scheduler.py) or a hand-over (handover.py) has claimed the attempt. After it:
:meth:`Supervisor.finish` records the end and, in the same transaction, hands the GPUs over."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any, NamedTuple

import structlog
from msgspec.structs import replace

from leptond.base import failpoints
from leptond.base.clock import Clock
from leptond.base.errors import StartRefused
from leptond.core.jobs.model import Attempt, ExitRecord, Identity, Job, StopReason
from leptond.core.jobs.secret_values import secret_values
from leptond.core.outcome.classify import Verdict, classify
from leptond.core.outcome.evidence import End, Evidence, MemoryFacts
from leptond.core.outcome.retry import Decision
from leptond.core.outcome.text_rules import speaks_of_device
from leptond.engines.base import Engine, SpawnFailed, given
from leptond.scheduling.handover import ClaimBatch, HandOver
from leptond.scheduling.standby import Standby
from leptond.scheduling.start_permit import StartPermit
from leptond.services.file_look import FileLook
from leptond.services.gpu_usage import GpuUsage
from leptond.services.progress_receiver import ProgressReceiver
from leptond.store import Connection, Store, StoreError, StoreUnavailable
from leptond.store.planning.successors import OutOfStep
from leptond.store.queue import attempts, dependencies, notes
from leptond.store.queue.attempts import Claim
from leptond.store.training import progress

log = structlog.get_logger("leptond.supervisor")

RETRY_S = 1.0
"""Pause before a write that failed (a full disk) is tried again."""

OVERRUN_SLACK_S = 1.0
"""Time beyond its limit for which a job shows as running: its command starts a little after its claim."""

LOOK_S = 0.5
"""Longest time that the record of an end waits for the look at the files of its command."""

NOTE_PID_S = 0.05
"""Time that a successor runs before its pid is recorded."""


class Supervisor:
    """Carries attempts through their lives, each in a task of `group`; `reports` knows what they say
    about themselves, `usage` what they make of their devices, `file_look` whether what they run is what was
    submitted; `faults` asks the driver what it has against some devices."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        clock: Clock,
        group: asyncio.TaskGroup,
        reports: ProgressReceiver,
        usage: GpuUsage,
        standby: Standby,
        handover: HandOver,
        permit: StartPermit,
        file_look: FileLook,
        faults: Callable[[Collection[str]], Awaitable[Sequence[str]]],
    ) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock
        self._group = group
        self._reports = reports
        self._usage = usage
        self._stopped: dict[str, float] = {}
        self._standby = standby
        self._handover = handover
        self._permit = permit
        self._file_look = file_look
        self._faults = faults
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, claim: Claim) -> None:
        """Start a claimed attempt and follow it to its end. If its shim is stored, that waits at its gate
        already, which is opened at once."""
        arrival = self._standby.arrival(claim.attempt.id)
        if claim.attempt.shim is None:
            self._life(claim, self._start(claim, arrival))
        else:
            failpoints.fp("before_go")
            self._engine.go(claim.attempt.id, given(claim.attempt))
            self._handover.successions.begin(claim.attempt)
            self._life(claim, self._run(claim))

    async def see_out(self, claim: Claim) -> None:
        """Wait for the end of an attempt that is as good as over, and record it."""
        self._engine.adopt(claim.attempt)
        self._usage.begin(claim.attempt, self._clock.wall())
        await self._follow(claim)

    def follow(self, claim: Claim) -> None:
        """Follow an attempt that already runs (adopted) to its end."""
        self._life(claim, self._follow(claim))

    def close(self) -> None:
        """Stop following; the attempts themselves go on."""
        for task in self._tasks:
            task.cancel()

    def _life(self, claim: Claim, life: Coroutine[None, None, None]) -> None:
        self._usage.begin(claim.attempt, self._clock.wall())
        task = self._group.create_task(self._guarded(claim, life), name=f"attempt-{claim.attempt.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, claim: Claim, life: Coroutine[None, None, None]) -> None:
        """Keep a fault in following one attempt from the others. Its GPUs stay leased; the next start of the
        daemon reconciles it."""
        try:
            await life
        except OutOfStep as error:
            # its process must not live on, nor anything start beside it: the daemon's next start sees to it
            self._store.broken.set_result(StartRefused(f"a job was started out of turn: {error}", 75))
        except Exception:
            log.exception("attempt.lost", job=claim.job.id, attempt=claim.attempt.number)

    def stop(self, attempt_id: str, attempt: Attempt, reason: str, grace_s: float) -> None:
        """Deliver a stop, once for every grace that is asked for."""
        if reason == StopReason.TIMEOUT:
            return  # the shim keeps the limit itself
        if attempt.shim is None:
            return  # still before the gate: it will not be opened
        if self._stopped.get(attempt_id, float("inf")) <= grace_s:
            return
        self._stopped[attempt_id] = grace_s
        log.info(
            "attempt.stopping", job=attempt.job_id, attempt=attempt.number, reason=reason, grace_s=grace_s
        )
        self._engine.stop(attempt, reason, grace_s)

    async def _start(self, claim: Claim, arrival: asyncio.Future[Identity] | None) -> None:
        job, attempt = claim.job, claim.attempt
        bound = log.bind(job=job.id, attempt=attempt.number)
        try:
            if arrival is not None:
                shim = await arrival
            else:
                shim = await self._engine.prepare(replace(job, attempt=attempt.number - 1), attempt.id)
        except SpawnFailed as error:
            bound.warning("attempt.not_started", error=str(error))
            record = ExitRecord(
                attempt_id=attempt.id, boot_id=attempt.boot_id, exec_error=str(error), exec_errno=error.number
            )
            await self.finish(job, attempt, End(record=record))
            return
        failpoints.fp("after_ready")
        now = self._clock.wall()
        deadline_at = now + job.time_limit_s if job.time_limit_s is not None else None
        try:
            wanted = await self._store.write(
                attempts.started, attempt.id, shim=shim, now=now, deadline_at=deadline_at
            )
        except StoreError as error:
            bound.error("attempt.start_not_recorded", error=str(error))  # its command does not start
            wanted = False
        failpoints.fp("after_commit_started")
        if wanted:
            self._engine.go(attempt.id, given(attempt))
            self._handover.successions.begin(attempt)
            await self._run(claim, note_after_s=0.0)
        else:
            self._engine.abandon(attempt.id)
            await self._follow(claim)

    async def _run(self, claim: Claim, note_after_s: float = NOTE_PID_S) -> None:
        """Follow an attempt whose gate was opened."""
        job, attempt = claim.job, claim.attempt
        pid = await self._engine.started(attempt.id)
        failpoints.fp("after_go")
        gpus = [gpu.index for gpu in attempt.gpus]
        log.info("attempt.started", job=job.id, attempt=attempt.number, pid=pid, gpus=gpus, name=job.name)
        if pid is not None and not note_after_s:
            await self._note_pid(job, attempt, pid)
            pid = None
        await self._follow(claim, pid)

    async def _note_pid(self, job: Job, attempt: Attempt, pid: int, after_s: float = 0.0) -> None:
        """Record the command's pid. Best effort, for display only; after `after_s` for successors, so that
        those which end sooner cost no commit."""
        now = self._clock.wall()
        deadline_at = now + job.time_limit_s if job.time_limit_s is not None else None
        start = self._engine.start_mode(attempt.id)
        await asyncio.sleep(after_s)
        with contextlib.suppress(StoreError):
            await self._store.write(
                lambda db: attempts.set_pid(db, attempt.id, pid, deadline_at=deadline_at, start=start),
                wakes_scheduler=False,
            )
        failpoints.fp("after_pid_stored")

    async def _follow(self, claim: Claim, pid: int | None = None) -> None:
        job, attempt = claim.job, claim.attempt
        watches = [asyncio.create_task(self._show_overrun(job, attempt))]
        if pid is not None:
            watches.append(asyncio.create_task(self._note_pid(job, attempt, pid, NOTE_PID_S)))
        if job.spec.no_progress_s is not None:
            watches.append(asyncio.create_task(self._watch_progress(attempt, job.spec.no_progress_s)))
        look = None
        if job.sources != "[]":
            look = self._group.create_task(self._note_changes(job, attempt), name=f"look-{attempt.id}")
            self._tasks.add(look)
            look.add_done_callback(self._tasks.discard)
        try:
            end = await self._engine.ended(job, attempt)
            if look is not None:
                await asyncio.wait((look,), timeout=LOOK_S)  # before the end, where it may be in time
        finally:
            for watch in watches:
                watch.cancel()
                with contextlib.suppress(asyncio.CancelledError, StoreError):
                    await watch
        failpoints.fp("after_ended")
        await self.finish(job, attempt, end)

    async def _note_changes(self, job: Job, attempt: Attempt) -> None:
        """Note which files of the command are not as they were at the submit. A fault of this look is no
        fault of the attempt."""
        started_at = attempt.started_at if attempt.started_at is not None else self._clock.wall()
        try:
            changed = await self._file_look.changes(job, started_at=started_at)
            for note in changed:
                log.info("attempt.source_changed", job=job.id, attempt=attempt.number, note=note.text)
            if changed:
                add = partial(
                    notes.add, job_id=job.id, number=attempt.number, notes=changed, now=self._clock.wall()
                )
                await self._store.write(add, wakes_scheduler=False)
        except StoreError:
            pass  # a full disk; the daemon says so
        except Exception:
            log.exception("attempt.look_failed", job=job.id, attempt=attempt.number)

    async def _show_overrun(self, job: Job, attempt: Attempt) -> None:
        """Show the job as stopping once its limit is over, if its shim lives: should that be lost later, it
        was the limit that ended the attempt. The shim keeps the limit."""
        if job.time_limit_s is None:
            return
        attempt = await self._store.read(attempts.get, attempt.id)
        if attempt.shim is None:
            return
        # by boot time, which no setting of the wall clock moves; a limit of days is checked every hour, for
        # suspends. The command was started a little later than it was claimed, and much later where the disk
        # was slow: better late than false
        until = attempt.claimed_boot + job.time_limit_s + OVERRUN_SLACK_S
        if attempt.pid is not None and attempt.deadline_at is not None:
            until = max(until, attempt.claimed_boot + attempt.deadline_at - attempt.claimed_at)
        else:
            until = max(until, self._clock.boot() + job.time_limit_s)  # it is not known when it began
        while (left := until - self._clock.boot()) > 0:
            await asyncio.sleep(min(left, 3600.0))
        if not self._engine.is_alive(attempt.id):
            return  # nothing says that it ran until its limit
        await self._store.write(attempts.overran, attempt.id, now=self._clock.wall())

    async def _watch_progress(self, attempt: Attempt, limit_s: float) -> None:
        """Stop an attempt that shows no new step for `limit_s`. The clock stands still in a suspend, and
        begins anew with the daemon: messages that came while it was away do not count against the job."""
        since = time.monotonic()
        while (left := limit_s - (time.monotonic() - since)) > 0:
            await asyncio.sleep(left)
            since = max(since, self._reports.progressed_at(attempt.id) or since)
        while self._engine.is_alive(attempt.id):
            try:
                stopped = await self._store.write(progress.hung, attempt.id, now=self._clock.wall())
            except StoreUnavailable as error:
                log.error("hang.not_stopped", job=attempt.job_id, error=str(error), retry_s=RETRY_S)
                await asyncio.sleep(RETRY_S)
                continue
            if stopped:
                log.warning("hang.stopped", job=attempt.job_id, attempt=attempt.number, limit_s=limit_s)
            return

    async def finish(self, job: Job, attempt: Attempt, end: End) -> None:
        """Judge an ended attempt and record the result, and in the same transaction hand its GPUs over. A
        full disk delays it, nothing loses it."""
        self._reports.flush_soon()
        if end.record is not None:
            self._permit.failed(end.record.exec_errno)
        faults = await self._device_faults(attempt, end)
        entry = await self._handover.taken_over(attempt, end)
        taken = entry.taken if entry is not None else None
        while True:
            batch = self._handover.at_end(entry)
            claims: Sequence[Claim] | None = None
            now, boot = self._clock.wall(), self._clock.boot()
            if taken is not None:
                now, boot = taken.claimed_at, taken.claimed_boot
            change = partial(
                _hand_over,
                attempt_id=attempt.id,
                end=end,
                mem_bytes=job.mem_bytes,
                gpu_faults=faults,
                secrets=secret_values(job.spec.env),
                memory=self._usage.memory.of(attempt.id, self._clock.wall()),
                batch=batch,
                now=now,
                boot=boot,
                boot_id=self._clock.boot_id,
                roll=random.random(),
                uses=self._usage.of(attempt.id),
            )
            try:
                failpoints.fp("before_booking")
                if entry is None:
                    with self._handover.freeing():
                        booking = await self._store.write_planned(change)
                else:
                    urgent = self._store.write_urgent(change)
                    entry.settle()
                    booking = await urgent
                claims = booking.claims
                failpoints.fp("after_commit_finish")
                if booking.unplanned:
                    self._handover.note_unplanned()
                for claim in booking.claims:
                    if taken is not None:
                        self._life(claim, self._run(claim))
                    else:
                        self.start(claim)
                break
            except StoreUnavailable as error:
                log.error(
                    "attempt.end_not_recorded",
                    job=job.id,
                    attempt=attempt.number,
                    error=str(error),
                    retry_s=RETRY_S,
                )
            finally:
                if batch is not None:
                    batch.done(claims)
            await asyncio.sleep(RETRY_S)
        self._engine.ack_end(attempt.id)
        self._usage.end(attempt.id)
        self._stopped.pop(attempt.id, None)
        self._reports.forget(attempt.id)
        if booking.decision is not None:
            code = end.record.exit_code if end.record is not None else None
            _log_end(job, attempt, booking.verdict, exit_code=code, retry=booking.decision.why)

    async def _device_faults(self, attempt: Attempt, end: End) -> Sequence[str]:
        """Ask the driver, where a job failed that speaks of a device: the output alone is no evidence."""
        record = end.record
        if record is None or record.exit_code == 0 or record.stop_reason is not None or not attempt.gpus:
            return ()
        if not speaks_of_device(end.error_file or "") and not speaks_of_device(end.log_tail):
            return ()
        return await self._faults({gpu.uuid for gpu in attempt.gpus})


def _log_end(job: Job, attempt: Attempt, verdict: Verdict, *, exit_code: int | None, retry: str) -> None:
    log.info(
        "attempt.ended",
        job=job.id,
        attempt=attempt.number,
        cause=str(verdict.cause),
        rule=verdict.rule,
        exit_code=exit_code,
        retry=retry,
    )


class Booking(NamedTuple):
    """What the transaction of an end has come to. `decision`: about another try, None if the end was recorded
    before; `unplanned`: more has changed than that an attempt took over from another."""

    verdict: Verdict
    decision: Decision | None
    claims: Sequence[Claim]
    unplanned: bool


def _hand_over(
    db: Connection,
    *,
    attempt_id: str,
    end: End,
    memory: MemoryFacts,
    mem_bytes: int | None,
    gpu_faults: Sequence[str],
    secrets: Sequence[str],
    batch: ClaimBatch | None,
    **facts: Any,
) -> Booking:
    """Record an end, in its transaction: the verdict, and the claims for what it frees."""
    if batch is not None:
        batch.begin(db)
    attempt = attempts.get(db, attempt_id)
    verdict = classify(
        Evidence.of(attempt, end, memory, mem_bytes=mem_bytes, gpu_faults=gpu_faults, secrets=secrets)
    )
    concerns_others = dependencies.concern(db, attempt.job_id)
    decision = attempts.finish(db, attempt_id, attempt=attempt, verdict=verdict, record=end.record, **facts)
    unplanned = decision is None or decision.again or concerns_others
    claims = batch.claim(db) if batch is not None else ()
    return Booking(verdict, decision, claims, unplanned)
