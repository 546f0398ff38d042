"""How an attempt gets its shim: one that rests after an earlier attempt, or was forked in advance; else one
that is forked now from a zygote that stands ready; where none answers, one with an interpreter of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from leptond.base import failpoints
from leptond.engines import procs
from leptond.engines.protocol import GATE_FD, LAUNCH_FD

log = structlog.get_logger("leptond.engine")

HERE = Path(__file__).parent
SHIM = HERE / "shim" / "__main__.py"
ZYGOTE = HERE / "zygote.py"
BARE = ("-I", "-S", "-X", "utf8")
"""Options of an interpreter that needs nothing but the standard library."""

ANSWER_S = 2.0
"""How long a zygote may take to fork. It takes a millisecond; a busy machine takes longer."""

RESTART_S = 1.0
"""How long after the end of a zygote the next is started."""

SPARES = 2
"""Shims of a zygote that are forked in advance."""

MOST_RESTING = 16
"""Shims of a zygote that wait for another attempt, at most."""

SPARE_S = 0.02
"""How long after one was taken another is forked: those that have ended by then make that needless."""

RESTED_S = 30.0
"""How long after a shim came back those above `SPARES` are sent away."""

LAUNCH_BYTES = 64 * 1024
"""The longest description that is sent through a gate: one that its buffer surely takes."""

HIGH_FD = 16
"""Above the numbers that descriptors are moved to in a child."""
CHANNEL_FD = 3
OUTPUT_FD = 4


def _high(fd: int, close: contextlib.ExitStack) -> int:
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
    close.callback(os.close, moved)
    return moved


def _pipe(close: contextlib.ExitStack) -> tuple[int, int]:
    fds = os.pipe2(os.O_CLOEXEC)
    for fd in fds:
        close.callback(os.close, fd)
    return fds


class Spawned(NamedTuple):
    """A process of ours. The pidfd was opened before anybody could collect it."""

    pid: int
    start_ticks: int
    pidfd: int


class Shim:
    """A shim, and our end of its gate. `home` is the zygote that it may rest with after its work."""

    def __init__(self, process: Spawned, gate: socket.socket, home: Zygote | None) -> None:
        self.pid, self.start_ticks, self.pidfd = process
        self.gate = gate
        self.home = home

    def close(self) -> None:
        """Shuts the gate; nobody looks after it any more."""
        self.gate.close()
        os.close(self.pidfd)


class ZygoteGone(Exception):
    """It does not answer, and whatever was asked of it has not happened and will not."""


class Zygote:
    """Our end of a zygote. `lost` is called once, when it has ended or was given up, `ready` when it is
    ready. With an `order` it is a warm one, that writes what its imports print into a pipe of its own."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        lost: Callable[[Zygote, str], None],
        *,
        order: str = "",
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._channel = ours
        self._lost = lost
        self._ready = ready
        self._next = 0
        self._waiting: dict[int, asyncio.Future[Spawned]] = {}
        self.facts: dict[str, Any] | None = None
        """What it said when it was ready; None before."""
        self.over = False
        self.resting: list[Shim] = []
        """Its shims that wait for an attempt."""
        with theirs, contextlib.ExitStack() as close:
            failed = close.enter_context(contextlib.ExitStack())
            failed.callback(ours.close)
            actions: list[tuple[Any, ...]] = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, _high(theirs.fileno(), close), CHANNEL_FD),
            ]
            if order:
                # pipes, as a job's are: the interpreter looks at what it has there when it starts
                output, written = (_high(fd, close) for fd in _pipe(close))
                actions += [(os.POSIX_SPAWN_DUP2, written, fd) for fd in (1, 2)]
                actions.append((os.POSIX_SPAWN_DUP2, output, OUTPUT_FD))
            self.pid = os.posix_spawn(
                command[0],
                [*command, str(CHANNEL_FD), *([order] if order else [])],
                dict(env),
                file_actions=actions,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGCHLD],
            )
            failed.pop_all()
        self._pidfd = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(ours, self._readable)

    async def fork(self, env: Mapping[str, str], fds: Sequence[int]) -> Spawned:
        """A process forked from it, with this environment and these descriptors. Raises ZygoteGone, and
        OSError where no process can be made."""
        if self.over or self.facts is None:
            raise ZygoteGone
        self._next = number = self._next + 1
        born: asyncio.Future[Spawned] = asyncio.get_running_loop().create_future()
        self._waiting[number] = born
        try:
            socket.send_fds(self._channel, [json.dumps({"id": number, "env": env}).encode()], list(fds))
            async with asyncio.timeout(ANSWER_S):
                return await asyncio.shield(born)
        except (OSError, TimeoutError) as failure:
            if born.done() and born.exception() is not None:
                raise
            self.give_up("it does not answer" if isinstance(failure, TimeoutError) else str(failure))
            if born.done() and born.exception() is None:
                return born.result()
            raise ZygoteGone from failure
        except asyncio.CancelledError:
            if born.done() and born.exception() is None:
                os.close(born.result().pidfd)  # its gate is shut by whoever cancelled: it ends
            raise
        finally:
            self._waiting.pop(number, None)

    def _readable(self) -> None:
        if not self._receive():
            self.give_up("it has ended")

    def _receive(self) -> bool:
        """Takes a message in; False at the end of the connection."""
        try:
            data, fds, _, _ = socket.recv_fds(self._channel, 65536, 1)
        except BlockingIOError:
            return True
        except OSError:
            return False
        for fd in fds:
            os.set_inheritable(fd, False)
        if not data:
            return False
        told = json.loads(data)
        born = self._waiting.get(told.get("id", 0))
        if "ready" in told:
            self.facts = told
            self._ready()
        elif born is None or born.done():
            for fd in fds:
                os.close(fd)
        elif fds:
            born.set_result(Spawned(told["pid"], told["start_ticks"], fds[0]))
        else:
            born.set_exception(OSError(told["errno"], os.strerror(told["errno"])))
        return True

    def give_up(self, why: str) -> None:
        """Ends it. What it has forked and told of is still taken; nothing else can come of it any more."""
        if self.over:
            return
        self.over = True
        while self.resting:
            self.resting.pop().close()
        # first: a child that has not answered yet cannot any more, and ends
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RD)
            while self._receive():
                pass
        for born in self._waiting.values():
            if not born.done():
                born.set_exception(ZygoteGone())
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._channel)
        self._channel.close()
        procs.send(self._pidfd, signal.SIGKILL)
        self._collect(loop)
        self._lost(self, why)

    def _collect(self, loop: asyncio.AbstractEventLoop) -> None:
        def ended() -> None:
            loop.remove_reader(self._pidfd)
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
            os.close(self._pidfd)

        loop.add_reader(self._pidfd, ended)


class Spawner:
    """Starts shims. With `prefork` a zygote is kept for it."""

    def __init__(self, path: str, *, prefork: bool) -> None:
        self._path = path
        self._prefork = prefork
        self._zygote: Zygote | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._later: dict[Zygote, asyncio.TimerHandle] = {}
        self._trims: dict[Zygote, asyncio.TimerHandle] = {}
        self._fills: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Starts the zygote. Needs a running loop."""
        self._timer = None
        if not self._prefork or self._closed:
            return
        command = [sys.executable, *BARE, str(ZYGOTE)]
        env = {"PATH": self._path, **failpoints.shim_environment()}
        try:
            zygote = self._zygote = Zygote(command, env, self._lost, ready=lambda: self.fill_soon(zygote))
        except OSError as error:
            self._lost(None, str(error))

    def _lost(self, _: Zygote | None, why: str) -> None:
        self._zygote = None
        if not self._closed:
            log.warning("shims start by themselves until there is a zygote again", error=why)
            self._timer = asyncio.get_running_loop().call_later(RESTART_S, self.open)

    @property
    def zygote(self) -> Zygote | None:
        """The zygote, once it is ready."""
        return self._zygote if self._zygote is not None and self._zygote.facts is not None else None

    async def shim(
        self, attempt_id: str, launch: Mapping[str, Any], errors: Path, *, warm: Zygote | None = None
    ) -> Shim:
        """A shim for an attempt, by its `launch` description, with standard error in the file `errors`; from
        the zygote `warm`, where there is one that answers. Raises OSError."""
        data = json.dumps({**launch, "again": True}).encode()
        for zygote in (warm, self.zygote):
            if zygote is None:
                continue
            self.fill_soon(zygote)
            if len(data) <= LAUNCH_BYTES and (rested := _rested(zygote, data)) is not None:
                return rested
            with contextlib.suppress(ZygoteGone):
                return await self._born(attempt_id, data, errors, zygote)
        return await self._born(attempt_id, json.dumps(launch).encode(), errors, None)

    async def _born(self, attempt_id: str, data: bytes, errors: Path, zygote: Zygote | None) -> Shim:
        """A new shim. Raises OSError and ZygoteGone."""
        env = {"PATH": self._path, **failpoints.shim_environment(), "LEPTOND_SHIM": attempt_id}
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs, contextlib.ExitStack() as close:
            failed = close.enter_context(contextlib.ExitStack())
            failed.callback(ours.close)
            log_fd = os.open(errors, flags, 0o600)
            close.callback(os.close, log_fd)
            launch = os.memfd_create("leptond-launch", os.MFD_CLOEXEC)
            close.callback(os.close, launch)
            while data:
                data = data[os.write(launch, data) :]
            if zygote is not None:
                process = await zygote.fork(env, [theirs.fileno(), launch, log_fd])
            else:
                process = _cold(env, theirs.fileno(), launch, log_fd)
            failed.pop_all()
        ours.setblocking(False)
        return Shim(process, ours, zygote)

    def fill_soon(self, zygote: Zygote) -> None:
        """Forks spare shims in a moment, should they still be wanted then."""
        if zygote not in self._later and not self._closed:
            loop = asyncio.get_running_loop()
            self._later[zygote] = loop.call_later(SPARE_S, self._fill, zygote)

    def _fill(self, zygote: Zygote) -> None:
        del self._later[zygote]
        if len(zygote.resting) < SPARES:
            task = asyncio.get_running_loop().create_task(self._fork_spares(zygote), name="spare-shims")
            self._fills.add(task)
            task.add_done_callback(self._fills.discard)

    async def _fork_spares(self, zygote: Zygote) -> None:
        while len(zygote.resting) < SPARES and not zygote.over:
            try:
                one = await self._born("", b"{}", Path(os.devnull), zygote)
            except (OSError, ZygoteGone) as error:
                log.info("no spare shims for now", error=str(error))
                return
            self._take_in(one)

    def rest(self, shim: Shim) -> None:
        """Takes a shim back that has done its work."""
        self._take_in(shim)
        home = shim.home
        if home is not None and len(home.resting) > SPARES and home not in self._trims:
            self._trims[home] = asyncio.get_running_loop().call_later(RESTED_S, self._trim, home)

    def _take_in(self, shim: Shim) -> None:
        home = shim.home
        if home is None or home.over or self._closed or len(home.resting) >= MOST_RESTING:
            shim.close()
        else:
            home.resting.append(shim)

    def _trim(self, zygote: Zygote) -> None:
        del self._trims[zygote]
        while len(zygote.resting) > SPARES:
            zygote.resting.pop(0).close()

    def close(self) -> None:
        """Ends the zygote; its shims go on."""
        self._closed = True
        for timer in (*self._later.values(), *self._trims.values()):
            timer.cancel()
        for task in self._fills:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._zygote is not None:
            self._zygote.give_up("closing")


def _rested(zygote: Zygote, launch: bytes) -> Shim | None:
    """One of its resting shims, told to take this launch; None when there is none. Those that have ended
    meanwhile are let go."""
    while zygote.resting:
        shim = zygote.resting.pop()
        if not procs.has_ended(shim.pidfd):
            with contextlib.suppress(OSError):
                shim.gate.sendall(b"LAUNCH " + launch + b"\n")
                return shim
        shim.close()
    return None


def _cold(env: Mapping[str, str], gate: int, launch: int, errors: int) -> Spawned:
    with contextlib.ExitStack() as close:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, *BARE, str(SHIM)],
            dict(env),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, _high(errors, close), 2),
                (os.POSIX_SPAWN_DUP2, _high(gate, close), GATE_FD),
                (os.POSIX_SPAWN_DUP2, _high(launch, close), LAUNCH_FD),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD],
        )
    # our own child: its pid cannot be anybody else's before we have collected it
    return Spawned(pid, procs.start_ticks(pid) or 0, os.pidfd_open(pid))
