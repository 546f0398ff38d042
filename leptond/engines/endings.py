"""The way of an attempt to its end: stops, the wait for the end, and what becomes of its shim."""

from __future__ import annotations

import asyncio
import time
from collections.abc import MutableMapping
from functools import partial
from typing import Any

import structlog

from leptond.attempt_files.records import AttemptFiles, decode_exit_record
from leptond.base import failpoints
from leptond.base.clock import kernel_boot_id
from leptond.config import EngineSettings
from leptond.core.jobs.model import Attempt, ExitRecord, Identity, Job
from leptond.core.outcome.evidence import End
from leptond.engines import procs, protocol
from leptond.engines.cgroup import Cgroups
from leptond.engines.shim_handle import OVERDUE_S, ShimHandle, ShimState
from leptond.engines.shim_pool import ShimPool

log = structlog.get_logger("leptond.engine")

WAKE_S = 1.0
"""The time from a limit to waking the shim once more; as long again, and it must not be stopped."""

RECORD_RETRY_S = 0.5
"""The time until an exit record that could not be read is read again."""
STOP_RETRY_S = 0.5
"""The time until a stop that the disk did not take is written again."""
ORPHAN_GRACE_S = 0.5
ORPHAN_LIMIT_S = 5.0


def _note_ended(job_id: int, number: int, pid: int) -> None:
    log.warning("process.ended", job=job_id, attempt=number, pid=pid)


class _Leaving:
    """A shim that has said ENDED. `gone` waits for the end of its process, `idle` for RESTING."""

    def __init__(self, shim: ShimHandle, gone: asyncio.Future[None]) -> None:
        self.shim = shim
        self.gone = gone
        self.idle: asyncio.Future[tuple[str, str]] | None = None

    def close(self) -> None:
        """Let go of the shim."""
        for wait in (self.gone, self.idle):
            if wait is not None:
                wait.cancel()
        self.shim.close()


class Endings:
    """Ends attempts and waits for their ends. `shims`, by attempt id, is shared with the rest of the engine;
    a shim is taken out of it when its attempt has ended."""

    def __init__(
        self,
        settings: EngineSettings,
        *,
        files: AttemptFiles,
        cgroups: Cgroups,
        shims: MutableMapping[str, ShimHandle],
        pool: ShimPool,
    ) -> None:
        self._settings = settings
        self._files = files
        self._cgroups = cgroups
        self._shims = shims
        self._pool = pool
        self._leaving: dict[str, _Leaving] = {}

    # -- stops -------------------------------------------------------------------------------------

    def stop(self, attempt: Attempt, reason: str, grace_s: float) -> None:
        """Write the request to stop and wake the shim. A shim that is gone needs none."""
        shim = self._shims.get(attempt.id)
        if shim is not None:
            self._request_stop(shim, attempt, reason, grace_s)
            self._expect_end(shim, grace_s)

    def _request_stop(self, shim: ShimHandle, attempt: Attempt, reason: str, grace_s: float) -> None:
        failpoints.fp("before_stop_file")
        try:
            self._files.request_stop(attempt, reason, grace_s)
        except OSError:
            # a disk that is full now must not cost the job its signal and its grace
            shim.later(STOP_RETRY_S, self._request_stop, shim, attempt, reason, grace_s)
            return
        failpoints.fp("after_stop_file")
        shim.wake()
        failpoints.fp("after_stop_signal")

    def _expect_end(self, shim: ShimHandle, within_s: float) -> None:
        """The shim keeps limits, graces and kills by itself. Kill it should it not have ended by then."""
        shim.later(within_s + WAKE_S, shim.wake)
        shim.later(within_s + 2 * WAKE_S, shim.kill_if_stopped)
        shim.later(within_s + self._settings.kill_timeout_s + OVERDUE_S, shim.kill_overdue)

    # -- the end -----------------------------------------------------------------------------------

    async def ended(self, job: Job, attempt: Attempt) -> End:
        """Wait for the end of an attempt, then read what it left. Where there is no record, what may be left
        of its processes is ended first: its GPUs are not free before."""
        record = None
        shim = self._shims.get(attempt.id)
        if shim is not None:
            if job.time_limit_s is not None:
                left = attempt.claimed_boot + job.time_limit_s - time.clock_gettime(time.CLOCK_BOOTTIME)
                shim.later(left + WAKE_S, shim.wake)
                self._expect_end(shim, left + (job.spec.grace_s or 0.0))
            record = await self._wait(shim, attempt)
        if record is None:
            record = await self._read_record(attempt)
        failpoints.fp("after_record_read")
        if record is None:
            return await self._lost(attempt, shim.command if shim is not None else None)
        if record.exit_code == 0 or record.stop_reason is not None:
            return End(record=record, word=self._files.last_word(attempt))
        tail, output_at = self._files.log_tail(attempt)
        return End(
            record=record,
            log_tail=tail,
            output_at=output_at,
            error_file=self._files.error_file(attempt),
            word=self._files.last_word(attempt),
        )

    async def _wait(self, shim: ShimHandle, attempt: Attempt) -> ExitRecord | None:
        """Wait until the shim says ENDED, and return the record in that message, or until its process ends.
        :meth:`ack_end` lets go of a shim that has said ENDED."""
        gone = asyncio.ensure_future(procs.ended(shim.pidfd))
        message: asyncio.Future[tuple[str, str]] | None = None
        record, listens = None, shim.gate is not None
        try:
            while record is None and not gone.done():
                if listens and shim.gate is not None and message is None:
                    message = asyncio.ensure_future(shim.gate.receive())
                waits: set[asyncio.Future[Any]] = {gone}
                if message is not None:
                    waits.add(message)
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if message is not None and message.done():
                    (word, text), message = message.result(), None
                    listens = word != ""
                    if word == protocol.ENDED:
                        record = decode_exit_record(text, attempt.id)
        finally:
            if message is not None:
                message.cancel()
            if record is None:
                gone.cancel()
        del self._shims[attempt.id]
        if gone.done():
            shim.close()
        else:
            shim.move(ShimState.ENDED)
            self._leaving[attempt.id] = _Leaving(shim, gone)
            gone.add_done_callback(lambda _: self._gone(attempt.id))
        return record

    async def _lost(self, attempt: Attempt, command: Identity | None) -> End:
        """Return the end of an attempt without a record, once nothing is left of it."""
        if attempt.boot_id != kernel_boot_id():
            return End(record=None, boot_changed=True)
        left = await self._end_remains(attempt, command)
        record = ExitRecord(attempt_id=attempt.id, boot_id=attempt.boot_id, unkillable=left) if left else None
        return End(record=record, shim_lost=True)

    async def _read_record(self, attempt: Attempt) -> ExitRecord | None:
        """Return the exit record; None where there is none. One that cannot be read now (no descriptors left,
        a disk that stumbles) is tried again for a while: without it a finished job would run twice."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.kill_timeout_s
        while True:
            try:
                record = self._files.exit_record(attempt)
                break
            except OSError as error:
                log.error("exit_record.unreadable", job=attempt.job_id, error=str(error))
                if loop.time() >= until:
                    return None
                await asyncio.sleep(RECORD_RETRY_S)
        try:
            await asyncio.to_thread(self._files.bring_home, attempt)
        except OSError as error:
            log.warning("attempt.files_not_brought", job=attempt.job_id, error=str(error))
        return record

    async def _end_remains(self, attempt: Attempt, command: Identity | None) -> int:
        failpoints.fp("before_end_of_remains")
        self._kill_cgroup(attempt.id, attempt.job_id, attempt.number)
        left = await procs.end_remains(
            attempt.id,
            command,
            grace_s=self._settings.linger_s,
            limit_s=self._settings.kill_timeout_s,
            note=partial(_note_ended, attempt.job_id, attempt.number),
        )
        left = max(left, len(self._cgroups.processes(attempt.id)))
        self._cgroups.remove(attempt.id)
        return left

    def _kill_cgroup(self, attempt_id: str, job_id: int, number: int) -> None:
        for pid in sorted(self._cgroups.processes(attempt_id)):
            _note_ended(job_id, number, pid)
        self._cgroups.kill(attempt_id)

    # -- after the end -----------------------------------------------------------------------------

    def ack_end(self, attempt_id: str) -> None:
        """The end of an attempt is durable: let its shim write its record and go or become idle, and remove
        what an attempt without GO has left."""
        leaving = self._leaving.get(attempt_id)
        gate = leaving.shim.gate if leaving is not None else None
        if leaving is None or gate is None:
            if self._files.standby(attempt_id).exists():
                self._files.remove_standby(attempt_id)
                self._cgroups.remove(attempt_id)
            return
        shim = leaving.shim
        gate.send(protocol.BOOKED)
        if shim.parent is None:
            shim.shut_gate()
        else:
            leaving.idle = asyncio.ensure_future(gate.receive())
            leaving.idle.add_done_callback(lambda message: self._after_record(attempt_id, message))
        shim.later(OVERDUE_S, shim.kill_overdue)

    def _after_record(self, attempt_id: str, message: asyncio.Future[tuple[str, str]]) -> None:
        """A shim that has left its record is idle now, or has shut its gate."""
        leaving = self._leaving.get(attempt_id)
        if message.cancelled() or leaving is None:
            return
        leaving.idle = None
        word, _ = message.result()
        if word == protocol.RESTING and not leaving.gone.done():
            del self._leaving[attempt_id]
            leaving.shim.move(ShimState.RESTING)
            leaving.gone.add_done_callback(lambda _: self._pool.release(leaving.shim))
            leaving.gone.cancel()  # the loop lets go of its pidfd first
        elif leaving.gone.done():
            self._gone(attempt_id)
        else:
            leaving.shim.shut_gate()

    def _gone(self, attempt_id: str) -> None:
        leaving = self._leaving.get(attempt_id)
        # what still reads from its gate comes to the end of it at once, and then here
        if leaving is not None and leaving.idle is None:
            del self._leaving[attempt_id]
            leaving.close()

    def orphans(self) -> set[str]:
        """Return the ids (by cookies and cgroups) or their beginnings (by tags) of the attempts that have
        processes on this machine."""
        return set(procs.cookies().values()) | set(procs.tags().values()) | self._cgroups.attempts()

    async def end_orphan(self, attempt_id: str, job_id: int, number: int) -> None:
        """Kill the remaining processes of an untracked attempt."""
        self._kill_cgroup(attempt_id, job_id, number)
        self._cgroups.remove(attempt_id)
        note = partial(_note_ended, job_id, number)
        await procs.end_remains(attempt_id, None, grace_s=ORPHAN_GRACE_S, limit_s=ORPHAN_LIMIT_S, note=note)

    def close(self) -> None:
        """Let go of all shims that have said ENDED."""
        for leaving in self._leaving.values():
            leaving.close()
        self._leaving.clear()
