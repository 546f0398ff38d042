"""How the daemon starts processes that jobs come from: by itself, or through the spawn server of another
unit, so that they inherit that unit's sandbox and cgroup and not the daemon's."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from leptond.base.durable import write_all
from leptond.base.errors import EXIT_LATER, StartRefused
from leptond.engines import cgroup

HIGH_FD = 16
"""Above the numbers that descriptors are moved to in a child."""

ANSWER_S = 2.0
"""The limit of an answer of the spawn server, which takes a millisecond or two."""

SILENT_S = 10.0
"""The time for which a server that did not answer is not asked again: the daemon waits for each answer."""

ANSWER_BYTES = 4096


def move_high(fd: int, close: contextlib.ExitStack) -> int:
    """Duplicate a descriptor above those that a child gets; `close` closes it."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
    close.callback(os.close, moved)
    return moved


class Spawner(Protocol):
    """Starts programs. `cgroup`: the directory of the cgroup that they begin in, None for the daemon's
    own."""

    cgroup: Path | None

    def spawn(
        self, argv: Sequence[str], env: Mapping[str, str], fds: Mapping[int, int], *, session: bool
    ) -> tuple[int, int]:
        """Start ``argv[0]`` with the descriptors `fds` (its number: ours) and /dev/null where standard input
        and output are not among them, with `session` as the leader of one. Return its pid and a pidfd. Raises
        OSError."""


class DirectSpawner:
    """Starts them as children of the daemon."""

    cgroup: Path | None = None

    def spawn(
        self, argv: Sequence[str], env: Mapping[str, str], fds: Mapping[int, int], *, session: bool
    ) -> tuple[int, int]:
        with contextlib.ExitStack() as close:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            close.callback(os.close, null)
            wanted = {0: null, 1: null, **fds}
            moved = [(move_high(fd, close), target) for target, fd in wanted.items()]
            defaults = [signal.SIGPIPE, signal.SIGCHLD]
            if session:
                defaults += [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
            pid = os.posix_spawn(
                argv[0],
                list(argv),
                dict(env),
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, target) for fd, target in moved],
                setsid=session,
                setsigmask=[],
                setsigdef=defaults,
            )
        # our own child: its pid cannot be anybody else's before we have collected it
        return pid, os.pidfd_open(pid)


DIRECT = DirectSpawner()


class UnitSpawner:
    """Starts them through the spawn server (:mod:`leptond.engines.spawn_server`) that listens at `path`.
    Raises StartRefused (75) where none answers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._answered = False
        self._silent_until = 0.0
        try:
            pid, pidfd = self._ask({"hello": True}, ())
        except OSError as error:
            raise StartRefused(
                f"{error.strerror} (engine.spawner). Start its unit (systemctl start leptond-jobs), or take"
                " engine.spawner away",
                EXIT_LATER,
            ) from None
        os.close(pidfd)
        self.cgroup: Path | None = cgroup.of(pid)

    def spawn(
        self, argv: Sequence[str], env: Mapping[str, str], fds: Mapping[int, int], *, session: bool
    ) -> tuple[int, int]:
        wanted = {"argv": list(argv), "env": dict(env), "fds": list(fds), "session": session}
        return self._ask(wanted, list(fds.values()))

    def _ask(self, request: dict[str, Any], fds: Sequence[int]) -> tuple[int, int]:
        """Send a request, on a new connection where the server has gone from the last one. Raises OSError:
        what the program's start met, or EAGAIN, which is the machine's fault and not the program's."""
        if time.monotonic() < self._silent_until:
            raise self._unavailable("it was silent a moment ago")
        with contextlib.ExitStack() as close:
            body = os.memfd_create("leptond-spawn", os.MFD_CLOEXEC)
            close.callback(os.close, body)
            # as the environment of a process has it: what is not UTF-8 stays
            write_all(body, json.dumps(request).encode())
            close.callback(self._close_unless_answered)
            self._answered = False
            had = self._socket is not None
            try:
                try:
                    answer = self._exchange([body, *fds])
                except (BrokenPipeError, ConnectionResetError):
                    if not had:
                        raise
                    self.close()
                    answer = self._exchange([body, *fds])
            except TimeoutError:
                self._silent_until = time.monotonic() + SILENT_S
                raise self._unavailable(f"no answer within {ANSWER_S:g} s") from None
            except OSError as error:
                raise self._unavailable(error.strerror or "it ended the connection") from None
        if isinstance(answer, OSError):
            raise answer
        return answer

    def _unavailable(self, why: str) -> OSError:
        return OSError(errno.EAGAIN, f"the spawn server of jobs at {self._path} does not answer: {why}")

    def _close_unless_answered(self) -> None:
        """An answer that comes late must not be taken for that of the next request."""
        if not self._answered:
            self.close()

    def _exchange(self, fds: Sequence[int]) -> tuple[int, int] | OSError:
        """Return what the server answers. Raises OSError where it does not."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
            self._socket.settimeout(ANSWER_S)
            self._socket.connect(str(self._path))
        socket.send_fds(self._socket, [b"spawn"], list(fds))
        data, got, _, _ = socket.recv_fds(self._socket, ANSWER_BYTES, 1)
        if not data:
            raise ConnectionResetError
        self._answered = True
        answer = json.loads(data)
        if not got:
            return OSError(answer["errno"], os.strerror(answer["errno"]))
        os.set_inheritable(got[0], False)
        return int(answer["pid"]), got[0]

    def close(self) -> None:
        """Let go of the connection; what was started goes on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def open_spawner(path: str) -> Spawner:
    """Return the spawner that the settings name; empty: the daemon itself. Raises StartRefused (75)."""
    return UnitSpawner(Path(path)) if path else DIRECT
