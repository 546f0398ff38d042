"""Where an attempt gets its shim from: an idle one (after an earlier attempt, or forked in advance), else one
that is forked now from a zygote, else, where none answers, one with an interpreter of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from leptond.base import failpoints, nofollow
from leptond.base.durable import write_all
from leptond.engines import procs, protocol
from leptond.engines.gate import Gate
from leptond.engines.shim_handle import Parent, Process, ShimHandle, ShimState
from leptond.engines.spawning import DIRECT, Spawner
from leptond.engines.zygote_handle import ZYGOTE, ZygoteGone, ZygoteHandle

log = structlog.get_logger("leptond.engine")

SHIM = Path(__file__).parent / "shim" / "__main__.py"
BARE = ("-I", "-S", "-X", "utf8")
"""Options of an interpreter that needs nothing but the standard library."""

RESTART_S = 1.0
"""The time from the end of a zygote to the start of the next."""

SPARES = 2
"""Shims of a zygote that are forked in advance."""

MOST_IDLE = 16
"""Idle shims of a zygote, at most."""

SPARE_S = 0.02
"""The time from taking one to forking another: attempts that end meanwhile make that needless."""

TRIM_S = 30.0
"""The time from a shim's becoming idle to the end of those above `SPARES`."""

NULL = Path(os.devnull)

LAUNCH_BYTES = 64 * 1024
"""The longest description that is sent through a gate: one that its buffer surely takes."""


class ShimPool:
    """Starts shims and keeps idle ones. With `prefork` a zygote is kept for it. `path` is their PATH;
    `spawner` starts the zygote, or, without one, them."""

    def __init__(self, path: str, *, prefork: bool, spawner: Spawner = DIRECT) -> None:
        self._path = path
        self._spawner = spawner
        self._prefork = prefork
        self._zygote: ZygoteHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._later: dict[ZygoteHandle, asyncio.TimerHandle] = {}
        self._trims: dict[Parent, asyncio.TimerHandle] = {}
        self._fills: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Start the zygote. Needs a running loop."""
        self._timer = None
        if not self._prefork or self._closed:
            return
        command = [sys.executable, *BARE, str(ZYGOTE)]
        env = {"PATH": self._path, **failpoints.shim_environment()}
        try:
            zygote = self._zygote = ZygoteHandle(
                command, env, self._lost, ready=lambda: self.fill_soon(zygote), spawner=self._spawner
            )
        except OSError as error:
            self._lost(None, str(error))

    def _lost(self, _: ZygoteHandle | None, why: str) -> None:
        self._zygote = None
        if not self._closed:
            log.warning("zygote.lost", error=why, retry_s=RESTART_S)
            self._timer = asyncio.get_running_loop().call_later(RESTART_S, self.open)

    @property
    def zygote(self) -> ZygoteHandle | None:
        """The zygote, once it is ready."""
        return self._zygote if self._zygote is not None and self._zygote.facts is not None else None

    async def acquire(
        self, attempt_id: str, launch: Mapping[str, Any], errors: Path, *, warm: ZygoteHandle | None = None
    ) -> ShimHandle:
        """Return a shim for an attempt, by its `launch` description, with standard error in the file
        `errors`; from the zygote `warm`, where there is one that answers. Raises OSError."""
        data = encoded({**launch, "again": True})
        for zygote in (warm, self.zygote):
            if zygote is None:
                continue
            self.fill_soon(zygote)
            if len(data) <= LAUNCH_BYTES and (idle := _take_idle(zygote, data.decode())) is not None:
                return idle
            with contextlib.suppress(ZygoteGone):
                return await self._start(attempt_id, data, errors, zygote)
        return await self._start(attempt_id, encoded(launch), errors, None)

    async def _start(
        self, attempt_id: str, data: bytes, errors: Path, zygote: ZygoteHandle | None
    ) -> ShimHandle:
        """Start a shim; without an attempt (`attempt_id` is empty) an idle one. Raises OSError and
        ZygoteGone."""
        env = {"PATH": self._path, **failpoints.shim_environment(), "LEPTOND_SHIM": attempt_id}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs, contextlib.ExitStack() as close:
            failed = close.enter_context(contextlib.ExitStack())
            failed.callback(ours.close)
            log_fd = _open_errors(errors)
            close.callback(os.close, log_fd)
            launch = os.memfd_create("leptond-launch", os.MFD_CLOEXEC)
            close.callback(os.close, launch)
            write_all(launch, data)
            if zygote is not None:
                process = await zygote.fork(env, [theirs.fileno(), launch, log_fd])
            else:
                process = self._cold(env, theirs.fileno(), launch, log_fd)
            failed.pop_all()
        ours.setblocking(False)
        state = ShimState.PREPARING if attempt_id else ShimState.RESTING
        return ShimHandle(process, Gate(ours), zygote, state)

    def _cold(self, env: Mapping[str, str], gate: int, launch: int, errors: int) -> Process:
        """Start a shim with an interpreter of its own. Raises OSError."""
        fds = {2: errors, protocol.GATE_FD: gate, protocol.LAUNCH_FD: launch}
        pid, pidfd = self._spawner.spawn([sys.executable, *BARE, str(SHIM)], env, fds, session=True)
        return Process(pid, procs.start_ticks(pid) or 0, pidfd)

    def fill_soon(self, zygote: ZygoteHandle) -> None:
        """Fork spare shims in a moment, should they still be wanted then."""
        if zygote not in self._later and not self._closed:
            loop = asyncio.get_running_loop()
            self._later[zygote] = loop.call_later(SPARE_S, self._fill, zygote)

    def _fill(self, zygote: ZygoteHandle) -> None:
        del self._later[zygote]
        if len(zygote.idle) < SPARES:
            task = asyncio.get_running_loop().create_task(self._fork_spares(zygote), name="spare-shims")
            self._fills.add(task)
            task.add_done_callback(self._fills.discard)

    async def _fork_spares(self, zygote: ZygoteHandle) -> None:
        while len(zygote.idle) < SPARES and not zygote.over:
            try:
                one = await self._start("", b"{}", NULL, zygote)
            except (OSError, ZygoteGone) as error:
                log.info("spare_shims.unavailable", error=str(error))
                return
            self._take_in(one)

    def release(self, shim: ShimHandle) -> None:
        """Take back a shim that is idle after an attempt."""
        self._take_in(shim)
        parent = shim.parent
        if parent is not None and len(parent.idle) > SPARES and parent not in self._trims:
            self._trims[parent] = asyncio.get_running_loop().call_later(TRIM_S, self._trim, parent)

    def _take_in(self, shim: ShimHandle) -> None:
        parent = shim.parent
        if parent is None or parent.over or self._closed or len(parent.idle) >= MOST_IDLE:
            shim.close()
        else:
            parent.idle.append(shim)

    def _trim(self, zygote: Parent) -> None:
        del self._trims[zygote]
        while len(zygote.idle) > SPARES:
            zygote.idle.pop(0).close()

    def close(self) -> None:
        """End the zygote; its shims go on."""
        self._closed = True
        for timer in (*self._later.values(), *self._trims.values()):
            timer.cancel()
        for task in self._fills:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._zygote is not None:
            self._zygote.give_up("closing")


def encoded(launch: Mapping[str, Any]) -> bytes:
    """Return a launch description as the shim reads it: JSON, in which what is not UTF-8 of the daemon's own
    environment and paths is kept."""
    try:
        return msgspec.json.encode(launch)
    except UnicodeEncodeError:
        return json.dumps(launch).encode()


def _take_idle(zygote: ZygoteHandle, launch: str) -> ShimHandle | None:
    """Return an idle shim that was sent this launch; None when there is none. Let go of those that have ended
    meanwhile."""
    while zygote.idle:
        shim = zygote.idle.pop()
        if not shim.has_ended and shim.gate is not None and shim.gate.send(protocol.LAUNCH, launch):
            shim.move(ShimState.PREPARING)
            return shim
        shim.close()
    return None


def _open_errors(path: Path) -> int:
    """Open the file that takes a shim's standard error. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    if path == NULL:
        return os.open(path, flags)
    with nofollow.directory(path.parent) as fd:
        return os.open(path.name, flags | os.O_NONBLOCK, 0o600, dir_fd=fd)
