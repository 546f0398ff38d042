"""The way of an attempt to its gate, and back when it is not wanted."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import random
import signal
import socket
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from leptond.attempt_files import knobs, layout
from leptond.attempt_files.records import AttemptFiles
from leptond.base import failpoints
from leptond.base.accounts import Account
from leptond.base.clock import kernel_boot_id
from leptond.base.paths import Places
from leptond.config import Settings
from leptond.core.access.run_as import AccountSettings
from leptond.core.jobs.model import Identity, Job
from leptond.core.warm_start import SUBMITTERS, cold_reason
from leptond.engines import procs, protocol
from leptond.engines.accounts import Accounts, Refused
from leptond.engines.base import SpawnFailed
from leptond.engines.cgroup import Bounds, Cgroups, Group
from leptond.engines.launch import Submitter, Surroundings, describe, script_name
from leptond.engines.report_sockets import ReportSockets
from leptond.engines.shim_handle import OVERDUE_S, ShimHandle, ShimState
from leptond.engines.shim_pool import ShimPool
from leptond.engines.warm_accounts import WarmAccounts, fork_relay
from leptond.engines.warm_pool import WarmPool, starts_cold
from leptond.engines.zygote_handle import ZygoteHandle

log = structlog.get_logger("leptond.engine")

PORTS = range(20000, 30000)
"""Where MASTER_PORT is drawn from: below the kernel's ephemeral range, so that no outgoing connection
takes the port between the check and the job's start."""
PORT_TRIES = 200


ScriptOf = Callable[[str], Awaitable[bytes | None]]
"""Finds a script that was kept at a submit, by its SHA-256; None where it is lost."""

SCRIPTS = 8
"""The scripts that are at hand without a look into the database: members of an array run the same one."""


class Preparation:
    """Brings attempts of the database `lineage` to their gates. `shims`, by attempt id, gets what is on its
    way there, and is shared with the rest of the engine."""

    def __init__(
        self,
        settings: Settings,
        places: Places,
        lineage: str,
        report_sockets: ReportSockets,
        *,
        script_of: ScriptOf,
        files: AttemptFiles,
        checkpoints_dir: Path,
        cgroups: Cgroups,
        shims: MutableMapping[str, ShimHandle],
        pool: ShimPool,
        warm: WarmPool,
        warm_accounts: WarmAccounts,
    ) -> None:
        self._warm_accounts = warm_accounts
        self._links: dict[str, contextlib.ExitStack] = {}
        """By attempt, the connections with relays that a shim is about to take over."""
        self._settings = settings
        self._places = places
        self._lineage = lineage
        self._report_sockets = report_sockets
        self._script_of = script_of
        self._scripts: dict[str, bytes] = {}
        self._files = files
        self._checkpoints_dir = checkpoints_dir
        self._cgroups = cgroups
        self._shims = shims
        self._pool = pool
        self._warm = warm
        self._accounts = Accounts(settings.accounts)
        self._umask = os.umask(0o077)
        os.umask(self._umask)

    async def prepare(self, job: Job, attempt_id: str) -> Identity:
        """Start the shim of the next attempt of `job`, and return when it is at its gate. Raises
        SpawnFailed."""
        try:
            return await self._to_gate(job, attempt_id)
        finally:
            self._links.pop(attempt_id, contextlib.ExitStack()).close()

    async def _to_gate(self, job: Job, attempt_id: str) -> Identity:
        try:
            shim = await self._acquire(job, attempt_id)
        except OSError as error:
            self._clear(attempt_id)
            raise SpawnFailed(
                f"the supervising process could not be started: {error}", error.errno or errno.EAGAIN
            ) from error
        self._shims[attempt_id] = shim
        shim.gpus_by_index = job.cuda_devices == "index"
        assert shim.gate is not None
        try:
            async with asyncio.timeout(self._settings.engine.start_timeout_s):
                word, text = await shim.gate.receive()
        except TimeoutError:
            word, text = "", ""
        if word != protocol.READY:
            shim.shut_gate()
            procs.send(shim.pidfd, signal.SIGKILL)
            await procs.ended(shim.pidfd)
            del self._shims[attempt_id]
            shim.close()
            failure = self._failure(word, text, attempt_id)
            self._clear(attempt_id)
            raise failure
        shim.move(ShimState.AT_GATE)
        return Identity(boot_id=kernel_boot_id(), pid=shim.pid, start_ticks=int(text))

    async def discard(self, attempt_id: str) -> None:
        """Take back a :meth:`prepare`, without a trace. Cancelled, leave that to :meth:`clear_standby`."""
        shim = self._shims.get(attempt_id)
        if shim is not None:
            shim.shut_gate()
            shim.later(OVERDUE_S, shim.kill_overdue)
            await procs.ended(shim.pidfd)
            del self._shims[attempt_id]
            shim.close()
        self._clear(attempt_id)

    async def clear_standby(self, live: Collection[str]) -> None:
        """Remove what the last daemon had in standby, except the claimed attempts in `live`. The shims end by
        themselves, because their gates are shut."""
        for attempt_id in sorted(self._files.standby_ids() - set(live)):
            identity = self._files.standby_identity(attempt_id)
            pidfd = procs.pin(identity) if identity is not None else None
            if pidfd is not None:
                try:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(OVERDUE_S):
                            await procs.ended(pidfd)
                    if not procs.has_ended(pidfd):
                        log.warning("standby.killed", id=attempt_id, pid=identity.pid if identity else None)
                        procs.send(pidfd, signal.SIGKILL)
                finally:
                    os.close(pidfd)
            self._clear(attempt_id)

    def _clear(self, attempt_id: str) -> None:
        """Remove what an attempt without GO has left."""
        self._files.remove_standby(attempt_id)
        self._cgroups.remove(attempt_id)

    async def _acquire(self, job: Job, attempt_id: str) -> ShimHandle:
        number = job.attempt + 1
        script = await self._script(job)
        submitter, refused = None, None
        try:
            submitter = await self._accounts.submitter(job)
        except Refused as why:
            refused = f"it cannot run as {job.user}: {why}"
        failpoints.fp("before_attempt_directory")
        standby = self._files.make_standby(attempt_id, submitter)
        failpoints.fp("after_attempt_directory")
        if job.tuned:
            knobs.leave(standby, job)
        checkpoints = self._checkpoints_dir / str(job.checkpoint_id)
        refused = refused or _make_checkpoints(checkpoints, submitter)
        group = self._cgroups.create(attempt_id, Bounds(mem_bytes=job.mem_bytes, cpus=job.cpus))
        port = self._free_port()
        place = self._files.place(job.id, number)
        around = self._surroundings(standby, place, checkpoints, group, port, submitter)
        launch = describe(job, attempt_id, number, around, script=script, refused=refused)
        if script is not None:
            self._files.leave_script(attempt_id, script_name(job), script, submitter)
        if failpoints.shim_text:
            launch["failpoints"] = failpoints.shim_text
        zygote = relay = None
        _, _, choice = starts_cold(SUBMITTERS)
        if submitter is None:
            zygote, command, choice = self._warm.choose(
                launch["argv"], launch["env"], launch["cwd"], cold=job.spec.cold
            )
            launch |= {"start": choice.mode, "warm": command}
        elif refused is None:
            relay = await self._relay(job, attempt_id, launch, around, submitter)
        shim = await self._pool.acquire(attempt_id, launch, standby / layout.SHIM_LOG, warm=zygote)
        shim.choice = choice
        failpoints.fp("after_spawn")
        shim.port, shim.relay = port, relay
        return shim

    async def _relay(
        self, job: Job, attempt_id: str, launch: dict[str, Any], around: Surroundings, account: Account
    ) -> ZygoteHandle | None:
        """Complete the launch of a job that runs as its submitter by the way it starts; return the warm
        process of that account that it is forked from."""
        if not around.cgroup:
            launch["start"] = cold_reason(SUBMITTERS)
            return None
        assert around.submitter is not None
        zygote, command, mode = self._warm_accounts.choose(
            around.submitter, account, launch["argv"], launch["env"], launch["cwd"], cold=job.spec.cold
        )
        launch["start"] = mode
        if zygote is None:
            return None
        close = self._links[attempt_id] = contextlib.ExitStack()
        relay = await fork_relay(zygote, attempt_id, account, self._settings.jobs.path, close)
        if relay is None:
            return None
        launch |= {"warm": command, "relay": msgspec.to_builtins(relay)}
        return zygote

    async def _script(self, job: Job) -> bytes | None:
        """Return the script that was kept at the submit of a job; None for one that has none. Raises
        SpawnFailed."""
        sha256 = job.script_sha256
        if sha256 is None:
            return None
        if sha256 not in self._scripts:
            found = await self._script_of(sha256)
            if (
                found is None or hashlib.sha256(found).hexdigest() != sha256
            ):  # damaged, and put together again
                text = f"the copy of its script {job.spec.argv[0]} is lost: submit it again"
                raise SpawnFailed(text, errno.ENOENT)
            while len(self._scripts) >= SCRIPTS:
                del self._scripts[next(iter(self._scripts))]
            self._scripts[sha256] = found
        return self._scripts[sha256]

    def _surroundings(
        self,
        standby: Path,
        directory: Path,
        checkpoints: Path,
        group: Group,
        port: int,
        submitter: Account | None,
    ) -> Surroundings:
        settings = self._settings.accounts
        alone = submitter is None
        return Surroundings(
            account=submitter or self._accounts.own,
            submitter=_submitter(submitter, settings) if submitter is not None else None,
            path=self._settings.jobs.path,
            lang=os.environ.get("LANG", "C.UTF-8"),
            tmpdir=os.environ.get("TMPDIR") if alone else None,
            standby=str(standby),
            directory=str(directory),
            own_directory=str(directory if alone else directory / layout.OWN_DIR),
            checkpoint_dir=str(checkpoints),
            api_socket=str(self._places.job_socket),
            report_socket=str(self._report_sockets.of_account(submitter.uid if submitter else None)),
            shim_socket=str(self._report_sockets.of_account(None)),
            master_port=port,
            boot_id=kernel_boot_id(),
            cgroup=group.path,
            cgroups=group.more,
            bounded=group.bounded,
            umask=self._umask if alone else int(settings.umask, 8),
            linger_s=self._settings.engine.linger_s,
            kill_timeout_s=self._settings.engine.kill_timeout_s,
            lineage=self._lineage,
        )

    def _free_port(self) -> int:
        taken = {shim.port for shim in self._shims.values()}
        for _ in range(PORT_TRIES):
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

    def _failure(self, word: str, text: str, attempt_id: str) -> SpawnFailed:
        """Return why a shim did not get ready, by its last message or its errors."""
        if word == protocol.CANNOT:
            number, _, reason = text.partition(" ")
            known = int(number) if number.isdecimal() else errno.EAGAIN
            return SpawnFailed(f"the supervising process could not get ready: {reason}", known)
        errors = self._files.shim_errors(attempt_id)
        return SpawnFailed("the supervising process did not get ready" + (f": {errors}" if errors else ""))


def _make_checkpoints(directory: Path, submitter: Account | None) -> str | None:
    """Make the directory of a job's checkpoints; return why it is none for `submitter`. Raises OSError."""
    mode = 0o755 if submitter is None else 0o700
    directory.mkdir(mode=mode, parents=True, exist_ok=True)
    if submitter is None:
        return None
    seen = directory.lstat()
    if seen.st_uid == submitter.uid:
        return None
    if seen.st_uid != os.geteuid():
        return (
            f"its checkpoint directory {directory} belongs to uid {seen.st_uid}, not to {submitter.name}"
            f" (chown -R {submitter.name} {directory} gives it away)"
        )
    os.chown(directory, submitter.uid, submitter.gid, follow_symlinks=False)
    return None


def _submitter(account: Account, settings: AccountSettings) -> Submitter:
    return Submitter(
        uid=account.uid,
        gid=account.gid,
        name=account.name,
        no_new_privileges=settings.no_new_privileges,
        max_processes=settings.max_processes,
    )
