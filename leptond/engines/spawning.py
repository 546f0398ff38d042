"""How shims come into being: forked from a zygote that stands ready, or, where there is none that answers, by
an interpreter of their own."""

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

from leptond import failpoints
from leptond.engines import processes
from leptond.engines.shim import GATE_FD, LAUNCH_FD

log = structlog.get_logger("leptond.engine")

HERE = Path(__file__).parent
SHIM = HERE / "shim.py"
ZYGOTE = HERE / "zygote.py"
BARE = ("-I", "-S", "-X", "utf8")
"""Options of an interpreter that needs nothing but the standard library."""

ANSWER_S = 2.0
"""How long a zygote may take to fork. It takes a millisecond; a busy machine takes longer."""

RESTART_S = 1.0
"""How long after the end of a zygote the next is started."""

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
        processes.send(self._pidfd, signal.SIGKILL)
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

    def open(self) -> None:
        """Starts the zygote. Needs a running loop."""
        self._timer = None
        if not self._prefork or self._closed:
            return
        command = [sys.executable, *BARE, str(ZYGOTE)]
        try:
            self._zygote = Zygote(command, {"PATH": self._path, **failpoints.shim_environment()}, self._lost)
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
        self, attempt_id: str, gate: int, launch: int, errors: Path, *, warm: Zygote | None = None
    ) -> Spawned:
        """Starts a shim with its `gate` and its `launch` description, and standard error in the file
        `errors`; from the zygote `warm`, where there is one that answers. Raises OSError."""
        env = {"PATH": self._path, "LEPTOND_SHIM": attempt_id, **failpoints.shim_environment()}
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(errors, flags, 0o600)
        try:
            if warm is not None:
                with contextlib.suppress(ZygoteGone):
                    return await warm.fork(env, [gate, launch, fd])
            if self.zygote is not None:
                with contextlib.suppress(ZygoteGone):
                    return await self.zygote.fork(env, [gate, launch, fd])
            return _cold(env, gate, launch, fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Ends the zygote; its shims go on."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._zygote is not None:
            self._zygote.give_up("closing")


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
    return Spawned(pid, processes.start_ticks(pid) or 0, os.pidfd_open(pid))
