"""A zygote as the daemon knows it: the process that shims are forked from."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from leptond.base.durable import write_all
from leptond.engines import procs
from leptond.engines.shim_handle import Process, ShimHandle
from leptond.engines.spawning import DIRECT, Spawner

ZYGOTE = Path(__file__).parent / "zygote.py"

MOST_CHARACTERS = 300
"""The longest reason of a zygote that is passed on."""

PAGE = os.sysconf("SC_PAGE_SIZE")

ANSWER_S = 2.0
"""The limit of a fork. It takes a millisecond; on a busy machine it takes longer."""

CHANNEL_FD = 3
OUTPUT_FD = 4
PLAN_FD = 5
"""As in :mod:`leptond.engines.zygote`."""
REPORT_BYTES = 16 * 1024 * 1024
"""The longest report that is read."""


def _pipe(close: contextlib.ExitStack) -> tuple[int, int]:
    fds = os.pipe2(os.O_CLOEXEC)
    for fd in fds:
        close.callback(os.close, fd)
    return fds


class ZygoteGone(Exception):
    """The zygote does not answer, and what was asked of it has not happened and will not."""


def decode(data: bytes) -> dict[str, Any]:
    """Return a message of a zygote, which may be that of another account. Raises ValueError for one that says
    what it may not.

    >>> decode(b'{"ready": true, "refused": "no\\u001b torch"}')["refused"]
    'no? torch'
    """
    try:
        message = json.loads(data)
    except RecursionError:
        raise ValueError("too deep") from None
    numbers = ("id", "pid", "start_ticks", "errno")
    if not (isinstance(message, dict) and all(isinstance(message.get(name, 0), int) for name in numbers)):
        raise ValueError("not what a zygote says")
    if "refused" in message:
        text = str(message["refused"])[:MOST_CHARACTERS]
        message["refused"] = "".join(one if one.isprintable() else "?" for one in text)
    return message


class ZygoteHandle:
    """The daemon's end of a zygote. `lost` is called once, when it has ended or was given up, `ready` when it
    is ready. With an `order` (a list of modules) it is a warm one, which imports them first, goes by `plan`
    (see :mod:`leptond.engines.warm_imports`), and writes what they print into a pipe of its own."""

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        lost: Callable[[ZygoteHandle, str], None],
        *,
        order: str = "",
        plan: bytes = b"{}",
        ready: Callable[[], None] = lambda: None,
        spawner: Spawner = DIRECT,
    ) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._channel = ours
        self._lost = lost
        self._ready = ready
        self._next = 0
        self._waiting: dict[int, asyncio.Future[Process]] = {}
        self.facts: dict[str, Any] | None = None
        """Its message when it was ready; None before."""
        self.over = False
        self._report_fd = -1
        self.idle: list[ShimHandle] = []
        """Shims forked from it that have no attempt."""
        with theirs, contextlib.ExitStack() as close:
            failed = close.enter_context(contextlib.ExitStack())
            failed.callback(ours.close)
            fds = {CHANNEL_FD: theirs.fileno()}
            if order:
                # pipes, as a job's are: the interpreter looks at what it has there when it starts
                output, written = _pipe(close)
                fds |= {1: written, 2: written, OUTPUT_FD: output}
                self._report_fd = os.memfd_create("leptond-plan", os.MFD_CLOEXEC)
                failed.callback(os.close, self._report_fd)
                write_all(self._report_fd, plan)
                os.lseek(self._report_fd, 0, os.SEEK_SET)
                fds[PLAN_FD] = self._report_fd
            argv = [*command, str(CHANNEL_FD), *([order] if order else [])]
            self.pid, self._pidfd = spawner.spawn(argv, env, fds, session=False)
            failed.pop_all()
        asyncio.get_running_loop().add_reader(ours, self._readable)

    async def fork(self, env: Mapping[str, str], fds: Sequence[int]) -> Process:
        """Fork a process from it, with this environment and these descriptors. Raises ZygoteGone, and OSError
        where no process can be made."""
        if self.over or self.facts is None:
            raise ZygoteGone
        self._next = number = self._next + 1
        born: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
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

    def report(self) -> dict[str, Any]:
        """Return what a warm zygote has found out, once it is ready. Raises ValueError where that cannot be
        read."""
        found: dict[str, Any] = json.loads(os.pread(self._report_fd, REPORT_BYTES, 0))
        return found

    def _readable(self) -> None:
        if not self._receive():
            self.give_up("it has ended")

    def _receive(self) -> bool:
        """Take a message in; False at the end of the connection."""
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
        try:
            message = decode(data)
        except ValueError:
            for fd in fds:
                os.close(fd)
            return False
        born = self._waiting.get(message.get("id", 0))
        if "ready" in message:
            if self.facts is None:
                self.facts = message
                self._ready()
        elif born is None or born.done():
            for fd in fds:
                os.close(fd)
        elif fds:
            born.set_result(Process(message["pid"], message["start_ticks"], fds[0]))
        else:
            born.set_exception(OSError(message["errno"], os.strerror(message["errno"])))
        return True

    def give_up(self, why: str) -> None:
        """End it. Forks that it has reported are still taken; nothing else can come of it any more."""
        if self.over:
            return
        self.over = True
        while self.idle:
            self.idle.pop().close()
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
        if self._report_fd >= 0:
            os.close(self._report_fd)
            self._report_fd = -1
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
