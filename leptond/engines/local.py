"""Attempts on this machine, each under a shim of its own (see :mod:`leptond.engines.shim`)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import pwd
import random
import shutil
import signal
import socket
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
import structlog

from leptond.attempt_files import knobs
from leptond.attempt_files.directory import is_held
from leptond.attempt_files.output_log import JobLog
from leptond.base import failpoints
from leptond.base.clock import kernel_boot_id
from leptond.base.durable import write_durably
from leptond.base.paths import Places, make_directory
from leptond.config import Settings
from leptond.core.jobs.model import Attempt, ExitRecord, Identity, Job
from leptond.core.outcome.classify import LOG_TAIL_BYTES, Word
from leptond.engines import cgroup, procs
from leptond.engines.base import End, Given, SpawnFailed
from leptond.engines.launch import Owner, Surroundings, assignment, describe
from leptond.engines.shim_pool import Shim, Spawned, Spawner, Zygote
from leptond.engines.warm_pool import WarmPool

log = structlog.get_logger("leptond.engine")

PORTS = range(20000, 30000)
"""Where MASTER_PORT is drawn from: below the kernel's ephemeral range, so that no outgoing connection
takes the port between our look and the job's start."""

STANDBY_DIR = ".deck"
"""Below the jobs' directories: what stands at its gate, a directory an attempt. The shim moves it to its
place at its GO."""

OVERDUE_S = 15.0
"""How much longer than its limit, its grace and the kill allow a shim may take before it is taken for stuck
(stopped by a signal, say) and is itself killed."""

NUDGE_S = 1.0
"""How long after its time a shim is told once more, and then has to show that it is not stopped."""

LOOK_S = 0.02
"""How often a directory is looked at that a shim may be about to move."""

RECORD_RETRY_S = 0.5
"""How long until an exit record that could not be read is read again."""
STOP_RETRY_S = 0.5
"""How long until a stop that the disk did not take is written again."""

_record = msgspec.json.Decoder(ExitRecord)
_word = msgspec.json.Decoder(Word)


class _Watched:
    """A shim that this daemon looks after. One that it has started itself has a `gate`; `home` is the zygote
    that this one may go back to."""

    def __init__(
        self,
        pid: int,
        start_ticks: int,
        pidfd: int,
        gate: Gate | None = None,
        port: int | None = None,
        home: Zygote | None = None,
    ) -> None:
        self.pid = pid
        self.start_ticks = start_ticks
        self.pidfd = pidfd
        self.gate = gate
        self.port = port
        self.home = home
        self.command: Identity | None = None
        self.gone: asyncio.Future[None] | None = None
        self.rests: asyncio.Future[str] | None = None
        self.zygote: Zygote | None = None
        self.start: str | None = None
        self.timers: list[asyncio.TimerHandle] = []

    def nudge(self) -> None:
        """Makes the shim look at its clock and at ``stop.json``, even if somebody has stopped it."""
        procs.send(self.pidfd, signal.SIGCONT)
        procs.send(self.pidfd, signal.SIGUSR1)

    def unless_stopped(self) -> None:
        """Ends a shim that is stopped or traced although it was just told to go on: by its own job, then."""
        if procs.is_stopped(self.pid):
            self.overdue()

    def overdue(self) -> None:
        """Ends a shim that does not do its work; what is left of its attempt is then ended by the daemon."""
        log.warning("a supervising process does not end its attempt in time; killing it", pid=self.pid)
        procs.send(self.pidfd, signal.SIGKILL)


class LocalEngine:
    """Runs attempts as processes of this machine. `jobs_dir` and `checkpoints_dir`, below the state
    directory of `places`, hold their files; `lineage` is that of the database whose attempts they are."""

    def __init__(self, settings: Settings, places: Places, lineage: str) -> None:
        self._settings = settings
        self._places = places
        self.jobs_dir = jobs_dir = places.state_dir / "jobs"
        self.checkpoints_dir = checkpoints_dir = places.state_dir / "checkpoints"
        make_directory(jobs_dir, 0o750)
        self._standby_dir = jobs_dir / STANDBY_DIR
        with contextlib.suppress(OSError):  # a full disk: it is made when there is room
            make_directory(self._standby_dir, 0o750)
        make_directory(checkpoints_dir, 0o755)
        self._lineage = lineage
        account = pwd.getpwuid(os.getuid())
        self._owner = Owner(name=account.pw_name, home=account.pw_dir, shell=account.pw_shell or "/bin/sh")
        self._watched: dict[str, _Watched] = {}
        self._leaving: dict[str, _Watched] = {}
        self._cgroup_root = _cgroup_root(settings)
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._spawner = Spawner(settings.jobs.path, prefork=settings.engine.prefork)
        self._warm = WarmPool(settings.engine, self._spawner.fill_soon)

    def open(self) -> None:
        """Gets ready to start attempts. Needs a running loop."""
        self._spawner.open()

    @property
    def containment(self) -> str:
        """How processes are kept together: a sentence for people."""
        if self._cgroup_root is not None:
            return f"cgroup v2 below {self._cgroup_root}"
        return "process tree (no delegated cgroup v2)"

    @property
    def cgroup_root(self) -> Path | None:
        """The delegated cgroup that attempts get theirs in, if any."""
        return self._cgroup_root

    def directory(self, attempt: Attempt) -> Path:
        """Where the files of an attempt are."""
        return self.jobs_dir / str(attempt.job_id) / str(attempt.number)

    # -- start -------------------------------------------------------------------------------------

    async def prepare(self, job: Job, attempt_id: str) -> Identity:
        """Starts the shim of the next attempt of `job` and waits until it stands at its gate. Raises
        SpawnFailed."""
        try:
            watched = await self._start_shim(job, attempt_id)
        except OSError as error:
            self._clear(attempt_id)
            raise SpawnFailed(
                f"the supervising process could not be started: {error}", error.errno or errno.EAGAIN
            ) from error
        self._watched[attempt_id] = watched
        assert watched.gate is not None
        try:
            async with asyncio.timeout(self._settings.engine.start_timeout_s):
                word, _, rest = (await watched.gate.line()).partition(" ")
        except TimeoutError:
            word, rest = "", ""
        if word != "READY":
            self.abandon(attempt_id)
            procs.send(watched.pidfd, signal.SIGKILL)
            await procs.ended(watched.pidfd)
            self._forget(attempt_id)
            failure = _why(word, rest, self._standby_dir / attempt_id)
            self._clear(attempt_id)
            raise failure
        return Identity(boot_id=kernel_boot_id(), pid=watched.pid, start_ticks=int(rest))

    def is_prepared(self, attempt_id: str) -> bool:
        """Whether a prepared shim is still there."""
        watched = self._watched.get(attempt_id)
        return watched is not None and not procs.has_ended(watched.pidfd)

    async def discard(self, attempt_id: str) -> None:
        """Take back a :meth:`prepare`, without a trace. Cancelled, leave that to :meth:`clear_standby`."""
        self.abandon(attempt_id)
        watched = self._watched.get(attempt_id)
        if watched is not None:
            timer = asyncio.get_running_loop().call_later(OVERDUE_S, watched.overdue)
            watched.timers.append(timer)
            await procs.ended(watched.pidfd)
            self._forget(attempt_id)
        self._clear(attempt_id)

    def _clear(self, attempt_id: str) -> None:
        """Removes what an attempt without GO has left."""
        shutil.rmtree(self._standby_dir / attempt_id, ignore_errors=True)
        if self._cgroup_root is not None:
            cgroup.remove(self._cgroup_root, attempt_id)

    async def clear_standby(self, live: Collection[str]) -> None:
        """Remove what the last daemon had in standby, except the claimed attempts in `live`. Those that go
        end by themselves, because their gates are shut."""
        there = {path.name for path in self._standby_dir.iterdir()} if self._standby_dir.is_dir() else set()
        for attempt_id in sorted(there - set(live)):
            pidfd = procs.pin(identity) if (identity := _identity(self._standby_dir / attempt_id)) else None
            if pidfd is not None:
                try:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(OVERDUE_S):
                            await procs.ended(pidfd)
                    procs.send(pidfd, signal.SIGKILL)
                finally:
                    os.close(pidfd)
            self._clear(attempt_id)

    async def check_writable(self) -> str:
        return await asyncio.to_thread(self._try_disk)

    def _try_disk(self) -> str:
        """Tries what a start needs, a directory and a page on disk: why it fails, or nothing."""
        probe = self.jobs_dir / ".probe"
        try:
            with contextlib.suppress(FileExistsError):
                probe.mkdir(mode=0o700)
            fd = os.open(probe / "page", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, bytes(4096))
                os.fsync(fd)
            finally:
                os.close(fd)
                (probe / "page").unlink()
            probe.rmdir()
        except OSError as error:
            return str(error)
        return ""

    async def _start_shim(self, job: Job, attempt_id: str) -> _Watched:
        number = job.attempt + 1
        standby, directory = self._standby_dir / attempt_id, self.jobs_dir / str(job.id) / str(number)
        failpoints.fp("before_attempt_directory")
        standby.mkdir(mode=0o750, parents=True)
        failpoints.fp("after_attempt_directory")
        if job.tuned:
            knobs.leave(standby, job)
        checkpoints = self.checkpoints_dir / str(job.checkpoint_id)
        checkpoints.mkdir(mode=0o755, parents=True, exist_ok=True)
        group = ""
        if self._cgroup_root is not None:
            group = str(cgroup.create(self._cgroup_root, attempt_id))
        port = self._free_port()
        around = self._surroundings(standby, directory, checkpoints, group, port)
        launch = describe(job, attempt_id, number, around)
        if failpoints.shim_text:
            launch["failpoints"] = failpoints.shim_text
        zygote, command, start = self._warm.choose(launch["argv"], launch["env"], cold=job.spec.cold)
        launch |= {"start": start, "warm": command}
        shim = await self._spawner.shim(attempt_id, launch, standby / "shim.log", warm=zygote)
        failpoints.fp("after_spawn")
        watched = _Watched(shim.pid, shim.start_ticks, shim.pidfd, Gate(shim.gate), port, shim.home)
        watched.zygote = zygote
        return watched

    def _surroundings(
        self, standby: Path, directory: Path, checkpoints: Path, group: str, port: int
    ) -> Surroundings:
        return Surroundings(
            owner=self._owner,
            path=self._settings.jobs.path,
            lang=os.environ.get("LANG", "C.UTF-8"),
            tmpdir=os.environ.get("TMPDIR"),
            standby=str(standby),
            directory=str(directory),
            checkpoint_dir=str(checkpoints),
            api_socket=str(self._places.socket),
            report_socket=str(self._places.report_socket),
            master_port=port,
            boot_id=kernel_boot_id(),
            cgroup=group,
            umask=self._umask,
            linger_s=self._settings.engine.linger_s,
            kill_timeout_s=self._settings.engine.kill_timeout_s,
            lineage=self._lineage,
        )

    def _free_port(self) -> int:
        taken = {watched.port for watched in self._watched.values()}
        for _ in range(200):
            port = random.randrange(PORTS.start, PORTS.stop)
            if port in taken:
                continue
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port
        raise OSError("no free port for MASTER_PORT")

    async def released_gpus(
        self, attempt_id: str, job_id: int, number: int, shim: Identity
    ) -> list[str] | None:
        """Whether a shim of an earlier daemon was told to go, and with which GPUs. It moves its directory
        then, and else it ends, for its gate is shut; one that does neither is ended."""
        place = self.jobs_dir / str(job_id) / str(number)
        loop = asyncio.get_running_loop()
        until = loop.time() + OVERDUE_S
        while (gpus := _claimed_gpus(place, attempt_id)) is None:
            pidfd = procs.pin(shim)
            if pidfd is None:
                gpus = _claimed_gpus(place, attempt_id)
                if gpus is None and shim.boot_id != kernel_boot_id():
                    shutil.rmtree(place, ignore_errors=True)  # what a power failure has left of it
                return gpus
            try:
                if loop.time() >= until:
                    procs.send(pidfd, signal.SIGKILL)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await procs.ended(pidfd)
            finally:
                os.close(pidfd)
        return gpus

    def go(self, attempt_id: str, given: Given) -> None:
        """Opens the gate: the attempt gets its GPUs, and its command starts. Whether it did is for
        :meth:`started`."""
        watched = self._watched[attempt_id]
        assert watched.gate is not None
        told = assignment(given, cpu_affinity=self._settings.gpus.cpu_affinity)
        watched.gate.say(f"GO {json.dumps(told)}")
        failpoints.fp("after_go_sent")

    async def started(self, attempt_id: str) -> int | None:
        """After :meth:`go`: the pid of the command, or None when it could not be executed (its exit record
        says why)."""
        watched = self._watched[attempt_id]
        assert watched.gate is not None
        words: list[str] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.engine.start_timeout_s):
                words = (await watched.gate.line()).split(maxsplit=2)
        if len(words) < 2 or words[0] != "STARTED":
            return None
        watched.start = words[2].strip() if len(words) > 2 else None
        if watched.zygote is not None and watched.start:
            self._warm.note(watched.zygote, watched.start)
        shim = Identity(boot_id=kernel_boot_id(), pid=watched.pid, start_ticks=0)
        watched.command = procs.command_of(shim, int(words[1]))
        return int(words[1])

    def start_mode(self, attempt_id: str) -> str | None:
        """How the command of an attempt started: ``warm`` or ``cold: WHY``."""
        watched = self._watched.get(attempt_id)
        return watched.start if watched is not None else None

    def abandon(self, attempt_id: str) -> None:
        """Shuts the gate: end of file, so the command never starts."""
        watched = self._watched.get(attempt_id)
        if watched is not None:
            self._close_gate(watched)

    @staticmethod
    def _close_gate(watched: _Watched) -> None:
        if watched.gate is not None:
            watched.gate.close()
            watched.gate = None

    # -- life --------------------------------------------------------------------------------------

    def adopt(self, attempt: Attempt) -> bool:
        """Watches an attempt of an earlier daemon; False when its shim is gone, or no longer its: where the
        database is older than the files, it may be that of another attempt by now."""
        if attempt.shim is None or not is_held(self.directory(attempt)):
            return False
        pidfd = procs.pin(attempt.shim)
        if pidfd is None:
            return False
        watched = _Watched(attempt.shim.pid, attempt.shim.start_ticks, pidfd)
        watched.command = procs.command_of(attempt.shim, attempt.pid)
        self._watched[attempt.id] = watched
        return True

    def push_knobs(self, job: Job, attempt: Attempt) -> None:
        """Leaves what was asked of the job's knobs in the attempt's directory."""
        with contextlib.suppress(OSError):
            knobs.leave(self.directory(attempt), job)

    def stop(self, attempt: Attempt, reason: str, grace_s: float) -> None:
        """Leaves ``stop.json`` and wakes the shim. A shim that is gone needs no telling."""
        watched = self._watched.get(attempt.id)
        if watched is None:
            return
        wanted = {"attempt_id": attempt.id, "reason": reason, "grace_s": grace_s}
        self._leave_stop(watched, str(self.directory(attempt)), json.dumps(wanted))
        self._expect_end(watched, grace_s)

    def _leave_stop(self, watched: _Watched, directory: str, wanted: str) -> None:
        failpoints.fp("before_stop_file")
        try:
            write_durably(directory, "stop.json", wanted)
        except OSError:
            # a disk that is full now must not cost the job its signal and its grace
            again = asyncio.get_running_loop().call_later(
                STOP_RETRY_S, self._leave_stop, watched, directory, wanted
            )
            watched.timers.append(again)
            return
        failpoints.fp("after_stop_file")
        watched.nudge()
        failpoints.fp("after_stop_signal")

    def _expect_end(self, watched: _Watched, within_s: float) -> None:
        """The shim keeps limits, graces and kills by itself. Should it not have ended by then, we do it."""
        loop = asyncio.get_running_loop()
        kill_s = self._settings.engine.kill_timeout_s
        watched.timers.append(loop.call_later(within_s + NUDGE_S, watched.nudge))
        watched.timers.append(loop.call_later(within_s + 2 * NUDGE_S, watched.unless_stopped))
        watched.timers.append(loop.call_later(within_s + kill_s + OVERDUE_S, watched.overdue))

    async def ended(self, job: Job, attempt: Attempt) -> End:
        """Waits for the end of the attempt's shim, then reads what it left. Where there is no record, what
        may be left of the attempt is ended first: its GPUs are not free before."""
        record = None
        watched = self._watched.get(attempt.id)
        if watched is not None:
            if job.time_limit_s is not None:
                left = attempt.claimed_boot + job.time_limit_s - time.clock_gettime(time.CLOCK_BOOTTIME)
                watched.timers.append(asyncio.get_running_loop().call_later(left + NUDGE_S, watched.nudge))
                self._expect_end(watched, left + (job.spec.grace_s or 0.0))
            record = await self._told_end(watched, attempt)
        if record is None:
            record = await self._record(attempt)
        failpoints.fp("after_record_read")
        if record is None:
            if attempt.boot_id != kernel_boot_id():
                return End(record=None, boot_changed=True, log_tail=self._log_tail(attempt))
            left = await self._end_remains(attempt, watched.command if watched is not None else None)
            lost = (
                ExitRecord(attempt_id=attempt.id, boot_id=attempt.boot_id, unkillable=left) if left else None
            )
            return End(record=lost, shim_lost=True, log_tail=self._log_tail(attempt))
        return End(
            record=record,
            log_tail="" if record.exit_code == 0 else self._log_tail(attempt),
            error_file=self._error_file(attempt),
            word=self._word(attempt),
        )

    async def _told_end(self, watched: _Watched, attempt: Attempt) -> ExitRecord | None:
        """Waits for the end of a shim, or for its word that nothing is left of its attempt but its record,
        which is what comes back then; :meth:`ack_end` lets it go."""
        gone = watched.gone = asyncio.ensure_future(procs.ended(watched.pidfd))
        said: asyncio.Future[str] | None = None
        record, listens = None, watched.gate is not None
        try:
            while record is None and not gone.done():
                if listens and watched.gate is not None and said is None:
                    said = asyncio.ensure_future(watched.gate.line())
                waits: set[asyncio.Future[Any]] = {gone}
                if said is not None:
                    waits.add(said)
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if said is not None and said.done():
                    line, said = said.result(), None
                    record, listens = _ended_word(line, attempt.id), line != ""
        finally:
            if said is not None:
                said.cancel()
            if record is None:
                gone.cancel()
        self._watched.pop(attempt.id)
        if gone.done():
            self._let_go(watched)
        else:
            self._leaving[attempt.id] = watched
            gone.add_done_callback(lambda _: self._left(attempt.id))
        return record

    def ack_end(self, attempt_id: str) -> None:
        """The end of an attempt is durable: its shim may write its record and go, and what an attempt that
        never had its GO has left is removed."""
        watched = self._leaving.get(attempt_id)
        if watched is not None and watched.gate is not None:
            watched.gate.say("BOOKED")
            if watched.home is None:
                self._close_gate(watched)
            else:
                watched.rests = asyncio.ensure_future(watched.gate.line())
                watched.rests.add_done_callback(lambda word: self._at_rest(attempt_id, word))
            loop = asyncio.get_running_loop()
            watched.timers.append(loop.call_later(OVERDUE_S, watched.overdue))
        elif (self._standby_dir / attempt_id).exists():
            self._clear(attempt_id)

    def _at_rest(self, attempt_id: str, word: asyncio.Future[str]) -> None:
        """A shim that has left its record waits for another attempt, or its gate is shut from its side."""
        watched = self._leaving.get(attempt_id)
        if word.cancelled() or watched is None or watched.gate is None or watched.gone is None:
            return
        watched.rests = None
        if word.result() == "RESTING" and not watched.gone.done():
            del self._leaving[attempt_id]
            for timer in watched.timers:
                timer.cancel()
            process = Spawned(watched.pid, watched.start_ticks, watched.pidfd)
            shim = Shim(process, watched.gate.connection, watched.home)
            watched.gone.add_done_callback(lambda _: self._spawner.rest(shim))
            watched.gone.cancel()  # the loop lets go of its pidfd first
        elif watched.gone.done():
            self._left(attempt_id)
        else:
            self._close_gate(watched)

    def _left(self, attempt_id: str) -> None:
        watched = self._leaving.get(attempt_id)
        # whoever still reads from its gate comes to the end of it at once, and then here
        if watched is not None and watched.rests is None:
            del self._leaving[attempt_id]
            self._let_go(watched)

    async def _end_remains(self, attempt: Attempt, command: Identity | None) -> int:
        failpoints.fp("before_end_of_remains")
        if self._cgroup_root is not None:
            cgroup.kill(self._cgroup_root, attempt.id)
        left = await procs.end_remains(
            attempt.id,
            command,
            grace_s=self._settings.engine.linger_s,
            limit_s=self._settings.engine.kill_timeout_s,
        )
        if self._cgroup_root is not None:
            left = max(left, len(cgroup.processes(self._cgroup_root, attempt.id)))
            cgroup.remove(self._cgroup_root, attempt.id)
        return left

    def orphans(self) -> set[str]:
        """Of the attempts that have processes on this machine, the ids (by cookies and cgroups) or their
        beginnings (by tags)."""
        found = set(procs.cookies().values()) | set(procs.tags().values())
        if self._cgroup_root is not None:
            prefix = cgroup.PREFIX
            found |= {path.name.removeprefix(prefix) for path in self._cgroup_root.glob(f"{prefix}*")}
        return found

    async def end_orphan(self, attempt_id: str) -> None:
        """Ends what is left of an attempt that nobody follows: what it still does is nobody's wish."""
        if self._cgroup_root is not None:
            cgroup.kill(self._cgroup_root, attempt_id)
            cgroup.remove(self._cgroup_root, attempt_id)
        await procs.end_remains(attempt_id, None, grace_s=0.5, limit_s=5.0)

    def _forget(self, attempt_id: str) -> None:
        watched = self._watched.pop(attempt_id)
        self._let_go(watched)

    def _let_go(self, watched: _Watched) -> None:
        for timer in watched.timers:
            timer.cancel()
        for waits in (watched.gone, watched.rests):
            if waits is not None:
                waits.cancel()
        self._close_gate(watched)
        os.close(watched.pidfd)

    def close(self) -> None:
        """Stops watching; the shims and their jobs go on."""
        self._warm.close()
        self._spawner.close()
        for watched in (*self._watched.values(), *self._leaving.values()):
            self._let_go(watched)
        self._watched.clear()
        self._leaving.clear()

    # -- what it left ------------------------------------------------------------------------------

    async def _record(self, attempt: Attempt) -> ExitRecord | None:
        """The exit record; None where there is none. One that cannot be read now (no descriptors left, a disk
        that stumbles) is tried again for a while: without it a finished job would run a second time."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.engine.kill_timeout_s
        while True:
            try:
                record = _record.decode(self._exit_file(attempt).read_bytes())
            except (FileNotFoundError, msgspec.DecodeError):
                return None
            except OSError as error:
                log.error("cannot read an exit record yet", job=attempt.job_id, error=str(error))
                if loop.time() >= until:
                    return None
                await asyncio.sleep(RECORD_RETRY_S)
            else:
                return record if record.attempt_id == attempt.id else None

    def _exit_file(self, attempt: Attempt) -> Path:
        """Its exit record, or that of a shim which never had its GO."""
        file = self.directory(attempt) / "exit.json"
        return file if file.exists() else self._standby_dir / attempt.id / "exit.json"

    def _log_tail(self, attempt: Attempt) -> str:
        log = JobLog(self.directory(attempt))
        try:
            data, _, _ = log.read(max(0, log.size() - LOG_TAIL_BYTES), LOG_TAIL_BYTES)
        except OSError:
            return ""
        return data.decode("utf-8", "replace")

    def _word(self, attempt: Attempt) -> Word | None:
        try:
            with (self.directory(attempt) / "word.json").open("rb") as file:
                word = _word.decode(file.read(LOG_TAIL_BYTES))
        except (OSError, msgspec.DecodeError):
            return None
        return word if word.attempt_id == attempt.id else None

    def _error_file(self, attempt: Attempt) -> str | None:
        try:
            with (self.directory(attempt) / "error.json").open("rb") as file:
                return file.read(LOG_TAIL_BYTES).decode("utf-8", "replace")
        except OSError:
            return None


def _cgroup_root(settings: Settings) -> Path | None:
    wanted = settings.engine
    if wanted.containment == "descendants":
        return None
    if wanted.cgroup_root:
        return Path(wanted.cgroup_root)
    return cgroup.own() if wanted.containment == "cgroup" else cgroup.delegated()


class Gate:
    """Our end of the connection with a shim."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._data = b""

    async def line(self) -> str:
        """The next line from the shim; empty at the end of the connection."""
        loop = asyncio.get_running_loop()
        while b"\n" not in self._data:
            try:
                part = await loop.sock_recv(self.connection, 65536)
            except OSError:
                part = b""
            if not part:
                return ""
            self._data += part
        line, _, self._data = self._data.partition(b"\n")
        return line.decode("utf-8", "replace")

    def say(self, text: str) -> None:
        """A line to the shim, if it is still there. It has the whole buffer of the socket for it."""
        with contextlib.suppress(OSError):
            self.connection.sendall(text.encode() + b"\n")

    def close(self) -> None:
        """End of file, for the shim."""
        self.connection.close()


def _ended_word(line: str, attempt_id: str) -> ExitRecord | None:
    """The record in a shim's last word; None when it is something else."""
    word, _, rest = line.partition(" ")
    if word != "ENDED":
        return None
    try:
        record = _record.decode(rest)
    except msgspec.DecodeError:
        return None
    return record if record.attempt_id == attempt_id else None


def _why(word: str, rest: str, standby: Path) -> SpawnFailed:
    """Why a shim did not get ready."""
    if word == "CANNOT":
        number, _, text = rest.partition(" ")
        known = int(number) if number.isdecimal() else errno.EAGAIN
        return SpawnFailed(f"the supervising process could not get ready: {text}", known)
    try:
        said = (standby / "shim.log").read_text(errors="replace")[-500:].strip()
    except OSError:
        said = ""
    return SpawnFailed("the supervising process did not get ready" + (f": {said}" if said else ""))


def _claimed_gpus(directory: Path, attempt_id: str) -> list[str] | None:
    """The GPUs that this attempt was told to start with; None when this is not its directory."""
    try:
        found = json.loads((directory / "identity.json").read_bytes())
        if found["attempt_id"] == attempt_id:
            return [gpu["uuid"] for gpu in found["claim"]["gpus"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _identity(directory: Path) -> Identity | None:
    """Who a shim in standby was; None when it never wrote it down."""
    try:
        found = json.loads((directory / "identity.json").read_bytes())
        return Identity(boot_id=found["boot_id"], pid=found["pid"], start_ticks=found["start_ticks"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
