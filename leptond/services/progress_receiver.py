"""The progress channel: datagram sockets to which jobs send progress messages, and shims what jobs print.

Messages are gathered and written once a second for all jobs together, so that a training that reports in
every step costs no more commits than one that reports now and then. The kernel names the sender's user
(SCM_CREDENTIALS); the attempt is named by its random id, which only its processes are given.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time

import structlog

from leptond.base import failpoints
from leptond.base.clock import Clock
from leptond.core.training.progress import ProgressBatch, ProgressMessage, advances, decode, new_batch
from leptond.engines.report_sockets import ReportSockets
from leptond.services.loop import Loop
from leptond.services.progress_sender import Senders
from leptond.store import Store, StoreError
from leptond.store.training import progress, sweeps

log = structlog.get_logger("leptond.progress")

INTERVAL_S = 1.0
"""Least seconds between two writes, unless a trial of a sweep has reached a rung."""

MAX_DATAGRAM = 16 * 1024
AT_ONCE = 256
"""Most datagrams taken in one go, so that the event loop is not held up."""

MAX_POINTS = 64
"""Most points of one attempt between two writes."""

MAX_ATTEMPTS = 4096
"""Most attempts with messages between two writes."""

MAX_UNVERIFIED = 256
"""Most messages of one account whose senders have ended, between two writes."""

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class ProgressReceiver:
    """Receives progress messages at `sockets` and writes them; knows when each attempt last progressed. Where
    jobs run as their submitters, every account may send, for its own attempts. `refused`: messages that could
    not be taken."""

    def __init__(self, sockets: ReportSockets, store: Store, clock: Clock) -> None:
        self._sockets = sockets
        self._store = store
        self._clock = clock
        self._gathered: dict[str, ProgressBatch] = {}
        self._progressed: dict[str, tuple[float, int | None, int | None]] = {}
        self._rungs: dict[str, int] = {}
        self._senders = Senders() if sockets.multi_user else None
        self._unverified: dict[int, list[ProgressMessage]] = {}  # by the uid that sent them
        self._at_rung = asyncio.Event()
        self._writes: set[asyncio.Task[None]] = set()
        self._undecided = True  # the last daemon may have left rungs of sweeps open
        self.refused = 0
        self._loop = Loop("progress-receiver", self._step, retry_s=INTERVAL_S)

    def open(self) -> None:
        """Start to listen. Raises StartRefused."""
        self._sockets.open(self._receive)

    def close(self) -> None:
        """Stop listening."""
        self._sockets.close()

    def progressed_at(self, attempt_id: str) -> float | None:
        """Time of an attempt's last new step or checkpoint, by time.monotonic(); None: none since this daemon
        started."""
        progressed = self._progressed.get(attempt_id)
        return progressed[0] if progressed is not None else None

    def forget(self, attempt_id: str) -> None:
        """Forget an attempt that has ended."""
        self._progressed.pop(attempt_id, None)
        self._rungs.pop(attempt_id, None)

    async def run(self) -> None:
        """Run until cancelled."""
        await self._loop.run()

    async def _step(self) -> None:
        self._at_rung.clear()
        await self._write()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTERVAL_S):
                await self._at_rung.wait()

    async def write(self) -> None:
        """Write what has been gathered without waiting for the loop. What cannot be stored is kept for it."""
        try:
            await self._write()
        except StoreError as error:
            log.error("progress.write_failed", error=str(error))
            self._loop.wake()

    async def _write(self) -> None:
        if self._unverified:
            await self._verify()
        batch, self._gathered = self._gathered, {}
        if batch:
            await self._record(batch)
        if self._undecided:
            await self._decide()

    async def _record(self, batch: dict[str, ProgressBatch]) -> None:
        now = self._clock.wall()
        try:
            if await self._store.write(
                lambda db: progress.record(db, batch.values(), now=now), wakes_scheduler=False
            ):
                self._undecided = True
        except StoreError:
            for attempt_id, old in batch.items():
                new = self._gathered.get(attempt_id)
                if new is not None:
                    old.add(new.latest)
                self._gathered[attempt_id] = old
            raise

    async def _decide(self) -> None:
        """Stop the trials of sweeps that are not good enough at their rungs. Open decisions are in the
        database: a crash in between, or a full disk, loses none."""
        self._undecided = False
        try:
            if await self._store.read(sweeps.any_open):
                failpoints.fp("before_halving")
                stopped = await self._store.write(sweeps.decide, now=self._clock.wall())
                failpoints.fp("after_halving")
                if stopped:
                    log.info("sweeps.trials_stopped", jobs=stopped)
        except StoreError:
            self._undecided = True
            raise

    def flush_soon(self) -> None:
        """Read what is in the socket and start to write it, ahead of any write that is asked for later: an
        attempt is about to end, and its last messages count."""
        self._sockets.read()
        if self._gathered or self._unverified:
            task = asyncio.get_running_loop().create_task(self.write())
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)

    def _receive(self, one: socket.socket) -> int:
        for taken in range(AT_ONCE):
            try:
                data, extra, flags, _ = one.recvmsg(
                    MAX_DATAGRAM, socket.CMSG_SPACE(_CREDENTIALS.size), socket.MSG_DONTWAIT
                )
            except OSError:
                return taken
            trusted = _trusted(extra)
            if flags & socket.MSG_TRUNC or not (trusted or self._senders):
                self.refused += 1
                continue
            try:
                reports = decode(data)
            except ValueError as error:
                self.refused += 1
                log.debug("progress.message_refused", error=str(error))
                continue
            for report in reports:
                if trusted:
                    self.take(report)
                else:
                    self._take_from(report, *_credentials(extra))
        return AT_ONCE

    def _take_from(self, report: ProgressMessage, pid: int, uid: int) -> None:
        """Add a message of another account, if its process belongs to the attempt that it speaks for. One
        that has ended meanwhile is judged by its user."""
        assert self._senders is not None
        attempt = self._senders.attempt_of(pid)
        if attempt == report.attempt:
            self.take(report)
            return
        waiting = self._unverified.setdefault(uid, [])
        if attempt is not None or len(waiting) >= MAX_UNVERIFIED:
            self.refused += 1
            return
        waiting.append(report)
        self._loop.wake()

    async def _verify(self) -> None:
        """Take those of the messages whose senders have ended that came from the account of their attempt."""
        waiting, self._unverified = self._unverified, {}
        named = {report.attempt for reports in waiting.values() for report in reports}
        owners = await self._store.read(progress.owners, named)
        for uid, reports in waiting.items():
            for report in reports:
                if owners.get(report.attempt) == uid:
                    self.take(report)
                else:
                    self.refused += 1

    def take(self, report: ProgressMessage) -> None:
        """Add a message to what is written next."""
        known = self._gathered.get(report.attempt)
        if known is None:
            if len(self._gathered) >= MAX_ATTEMPTS:
                self.refused += 1
                return
            self._gathered[report.attempt] = new_batch(report)
        else:
            known.add(report)
            if len(known.points) > MAX_POINTS:
                del known.points[1::2]
        _, step, saved = self._progressed.get(report.attempt, (0.0, None, None))
        if advances(step, saved, report):
            self._progressed[report.attempt] = (
                time.monotonic(),
                report.step if report.step is not None else step,
                report.checkpoint.step if report.checkpoint is not None else saved,
            )
        self._loop.wake()
        if len(report.rungs) > self._rungs.get(report.attempt, 0):
            # every step that a trial takes after a rung at which it is stopped is wasted
            self._rungs[report.attempt] = len(report.rungs)
            self._at_rung.set()


def _credentials(extra: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """Return pid and uid of the sender, as the kernel names them; -1 where it names none."""
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid, uid, _ = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])
            return pid, uid
    return -1, -1


def _trusted(extra: list[tuple[int, int, bytes]]) -> bool:
    """Return True if the kernel names as sender root or the daemon's own user: shims, and jobs too where they
    run as the daemon does."""
    return _credentials(extra)[1] in (os.geteuid(), 0)
