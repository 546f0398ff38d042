"""Attempts on this machine, each under a shim of its own (see :mod:`leptond.engines.shim`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import structlog

from leptond.attempt_files import layout
from leptond.attempt_files.directory import has_another, is_held
from leptond.attempt_files.records import AttemptFiles
from leptond.base import failpoints
from leptond.base.clock import kernel_boot_id
from leptond.base.paths import Places, make_directory
from leptond.config import Settings
from leptond.core.jobs.model import Attempt, Identity, Job, LeasedGpu
from leptond.core.outcome.evidence import End
from leptond.core.warm_learning import WarmEnvironment
from leptond.engines import cgroup, procs, protocol
from leptond.engines.base import Given, Taken
from leptond.engines.endings import Endings
from leptond.engines.launch import assignment
from leptond.engines.prepare import Preparation, ScriptOf
from leptond.engines.report_sockets import ReportSockets
from leptond.engines.shim_handle import Process, ShimHandle, ShimState
from leptond.engines.shim_pool import ShimPool
from leptond.engines.spawning import open_spawner
from leptond.engines.successions import Successions
from leptond.engines.warm_accounts import WarmAccounts
from leptond.engines.warm_pool import WarmPool
from leptond.engines.zygote_handle import ZygoteHandle

log = structlog.get_logger("leptond.engine")


class LocalEngine:
    """Runs attempts as processes of this machine. `jobs_dir` and `checkpoints_dir`, below the state directory
    of `places`, hold their files; `lineage` is that of the database whose attempts they are; `script_of`
    finds a script that was kept at a submit, by its SHA-256; `former` are state directories in which shims of
    earlier daemons may still work."""

    def __init__(
        self,
        settings: Settings,
        places: Places,
        lineage: str,
        script_of: ScriptOf,
        report_sockets: ReportSockets,
        *,
        former: Sequence[Path] = (),
    ) -> None:
        self._settings = settings
        self.jobs_dir = places.state_dir / layout.JOBS_DIR
        self.checkpoints_dir = places.state_dir / layout.CHECKPOINTS_DIR
        self._files = AttemptFiles(self.jobs_dir, [place / layout.JOBS_DIR for place in former])
        make_directory(self.checkpoints_dir, 0o755)
        self._spawner = open_spawner(settings.engine.spawner)
        self._cgroups = cgroup.Cgroups(
            cgroup.root_for(settings.engine, self._spawner.cgroup), cgroup.controllers_for(settings.engine)
        )
        self._shims: dict[str, ShimHandle] = {}
        self._pool = ShimPool(settings.jobs.path, prefork=settings.engine.prefork, spawner=self._spawner)
        self._warm = WarmPool(
            settings.engine, places.state_dir / layout.WARM_DIR, self._warmed, spawner=self._spawner
        )
        self._warmer = asyncio.Event()
        self._warm_accounts = WarmAccounts(settings.engine, self._spawner)
        self._preparation = Preparation(
            settings,
            places,
            lineage,
            report_sockets,
            script_of=script_of,
            files=self._files,
            checkpoints_dir=self.checkpoints_dir,
            cgroups=self._cgroups,
            shims=self._shims,
            pool=self._pool,
            warm=self._warm,
            warm_accounts=self._warm_accounts,
        )
        self._successions = Successions(
            files=self._files, shims=self._shims, cpu_affinity=settings.gpus.cpu_affinity
        )
        self._endings = Endings(
            settings.engine, files=self._files, cgroups=self._cgroups, shims=self._shims, pool=self._pool
        )

    def open(self) -> None:
        """Get ready to start attempts. Needs a running loop."""
        self._cgroups.open()
        self._pool.open()

    def close(self) -> None:
        """Stop watching; the shims and their jobs go on."""
        self._warm.close()
        self._warm_accounts.close()
        self._pool.close()
        self._successions.close()
        for shim in self._shims.values():
            shim.close()
        self._shims.clear()
        self._endings.close()

    @property
    def containment(self) -> str:
        """A sentence for people: the way processes are kept together."""
        root = self._cgroups.root
        kept = "process tree (no delegated cgroup v2)" if root is None else f"cgroup v2 below {root}"
        return f"{kept}; memory by {self._cgroups.bounds_memory}"

    def directory(self, attempt: Attempt) -> Path:
        """Return where the files of an attempt are."""
        return self._files.of(attempt)

    # -- before GO ---------------------------------------------------------------------------------

    async def prepare(self, job: Job, attempt_id: str) -> Identity:
        """Start the shim of the next attempt of `job`, and return when it is at its gate. Raises
        SpawnFailed."""
        return await self._preparation.prepare(job, attempt_id)

    def is_prepared(self, attempt_id: str) -> bool:
        """Return True if a prepared shim is still there."""
        return self.is_alive(attempt_id)

    async def discard(self, attempt_id: str) -> None:
        """Take back a :meth:`prepare`, without a trace. Cancelled, leave that to :meth:`clear_standby`."""
        await self._preparation.discard(attempt_id)

    async def clear_standby(self, live: Collection[str]) -> None:
        """Remove what the last daemon had in standby, except the claimed attempts in `live`."""
        await self._preparation.clear_standby(live)

    async def check_writable(self) -> str:
        """Try whether the files of an attempt can be written: the error, or an empty string."""
        return await asyncio.to_thread(self._files.probe)

    def abandon(self, attempt_id: str) -> None:
        """Shut the gate: end of file, so the command never starts."""
        shim = self._shims.get(attempt_id)
        if shim is not None:
            shim.shut_gate()

    # -- GO ----------------------------------------------------------------------------------------

    def go(self, attempt_id: str, given: Given) -> None:
        """Open the gate: the attempt gets its GPUs, and its command starts. :meth:`started` returns if it
        did."""
        shim = self._shims[attempt_id]
        assert shim.gate is not None
        shim.move(ShimState.RUNNING)
        given_gpus = assignment(
            given, cpu_affinity=self._settings.gpus.cpu_affinity, by_index=shim.gpus_by_index
        )
        shim.gate.send(protocol.GO, json.dumps(given_gpus))
        failpoints.fp("after_go_sent")

    async def started(self, attempt_id: str) -> int | None:
        """After :meth:`go`: return the pid of the command, or None when it could not be executed (its exit
        record says why)."""
        shim = self._shims[attempt_id]
        assert shim.gate is not None
        word = text = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.engine.start_timeout_s):
                word, text = await shim.gate.receive()
        if word != protocol.STARTED:
            return None
        number, _, mode = text.partition(" ")
        shim.start_mode = mode.strip() or None
        if shim.start_mode is not None:
            self._warm.started(shim.choice, shim.parent, shim.start_mode, int(number))
            if isinstance(shim.relay, ZygoteHandle):
                self._warm_accounts.note(shim.relay, shim.start_mode)
        identity = Identity(boot_id=kernel_boot_id(), pid=shim.pid, start_ticks=shim.start_ticks)
        shim.command = procs.command_of(identity, int(number))
        return int(number)

    def _warmed(self, zygote: ZygoteHandle) -> None:
        self._pool.fill_soon(zygote)
        self._warmer.set()

    def warm_environments(self) -> list[WarmEnvironment]:
        """Return what is to be told of the environments of jobs that may start warm."""
        return self._warm.environments()

    async def warmer(self) -> None:
        """Wait until attempts that are prepared may start in a better way if they are prepared anew."""
        await self._warmer.wait()
        self._warmer.clear()

    def is_outdated(self, attempt_id: str) -> bool:
        """Return True if an attempt that waits at its gate would start in a better way if it were prepared
        anew."""
        shim = self._shims.get(attempt_id)
        return (
            shim is not None
            and shim.state is ShimState.AT_GATE
            and self._warm.improves(shim.choice, shim.parent)
        )

    def start_mode(self, attempt_id: str) -> str | None:
        """Return how the command of an attempt started: ``warm`` or ``cold: WHY``; None if unknown."""
        shim = self._shims.get(attempt_id)
        return shim.start_mode if shim is not None else None

    # -- starts without the daemon -----------------------------------------------------------------

    def succeed(
        self,
        name: str,
        attempt_id: str,
        slots: Sequence[Sequence[LeasedGpu]],
        *,
        behind: str | None,
        until_boot: float | None,
    ) -> bool:
        """Let a prepared attempt wait in a succession for one of these slots."""
        return self._successions.succeed(name, attempt_id, slots, behind=behind, until_boot=until_boot)

    def hand_on(self, name: str, attempt_id: str, *, until_boot: float | None) -> bool:
        """Let a running attempt give its slot to a succession if it ends well."""
        return self._successions.hand_on(name, attempt_id, until_boot=until_boot)

    def give_turn(self, attempt_id: str) -> None:
        """Let an attempt that waits in a succession take the next slot."""
        self._successions.give_turn(attempt_id)

    def withdraw(self, attempt_id: str) -> None:
        """Take an attempt out of its succession."""
        self._successions.withdraw(attempt_id)

    async def outcome(self, attempt_id: str, job_id: int, number: int) -> Taken | None:
        """Wait until an attempt has started in its succession, or has left it."""
        return await self._successions.outcome(attempt_id, job_id, number)

    def end_succession(self, name: str) -> None:
        """Forget a succession in which nobody waits any more."""
        self._successions.end(name)

    async def taken(self, attempt_id: str, job_id: int, number: int, shim: Identity) -> Taken | None:
        """Return how a shim of an earlier daemon has started in a succession; None if it has not."""
        return await self._successions.taken(attempt_id, job_id, number, shim)

    # -- after GO ----------------------------------------------------------------------------------

    def adopt(self, attempt: Attempt) -> bool:
        """Watch an attempt of an earlier daemon; False when its shim is gone, or has another attempt by now:
        it has left the record of this one then, or holds the lock of the other. A lock that looks free is no
        sign of that. Raises OSError when it cannot be found out."""
        if attempt.shim is None:
            return False
        pidfd = procs.pin(attempt.shim)
        if pidfd is None:
            return False
        if not is_held(self.directory(attempt)) and self._is_over(attempt, attempt.shim):
            os.close(pidfd)
            return False
        process = Process(attempt.shim.pid, attempt.shim.start_ticks, pidfd)
        shim = ShimHandle(process, gate=None, parent=None, state=ShimState.RUNNING)
        shim.command = procs.command_of(attempt.shim, attempt.pid)
        self._shims[attempt.id] = shim
        return True

    def _is_over(self, attempt: Attempt, shim: Identity) -> bool:
        process = (shim.boot_id, shim.pid, shim.start_ticks)
        return self._files.has_ended(attempt) or has_another(self.jobs_dir, process)

    def is_alive(self, attempt_id: str) -> bool:
        """Return True while the shim of an attempt lives and has not said that the attempt has ended."""
        shim = self._shims.get(attempt_id)
        return shim is not None and not shim.has_ended

    def push_knobs(self, job: Job, attempt: Attempt) -> None:
        """Write the current values of the job's knobs into the attempt's directory."""
        self._files.push_knobs(job, attempt)

    def stop(self, attempt: Attempt, reason: str, grace_s: float) -> None:
        """Write the request to stop and wake the shim. A shim that is gone needs none."""
        self._endings.stop(attempt, reason, grace_s)

    async def ended(self, job: Job, attempt: Attempt) -> End:
        """Wait until the last process of the attempt is gone, then read what it left."""
        return await self._endings.ended(job, attempt)

    def ack_end(self, attempt_id: str) -> None:
        """The end of an attempt is durable: let its shim go or become idle."""
        self._endings.ack_end(attempt_id)

    def orphans(self) -> set[str]:
        """Return the ids, or their beginnings, of the attempts that have processes on this machine."""
        return self._endings.orphans()

    async def end_orphan(self, attempt_id: str, job_id: int, number: int) -> None:
        """Kill the remaining processes of an untracked attempt."""
        await self._endings.end_orphan(attempt_id, job_id, number)
