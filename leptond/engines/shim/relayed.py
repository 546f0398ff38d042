"""The shim's side of a command that is started from a warm process of its submitter's own account
(:mod:`leptond.engines.shim.relay`). What comes from there is the account's word: it may say how the command
ended, which is the command's own doing, and nothing else. All processes are in the attempt's cgroup."""

from __future__ import annotations

import errno
import os
import select
import socket
import time

from leptond.base import procfs
from leptond.engines.shim import identity
from leptond.engines.shim.clock import boot_now
from leptond.engines.shim.command import Command, Ended, ExecFailed
from leptond.engines.shim.relay import Gone, Lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PIDFD_GETFD = 438
"""The system call, on all machines."""
ANSWER_S = 5.0
"""The limit of an answer."""
START_S = 15.0
"""The limit of a start: it enters the directory, which may be on a file server."""

_FAULTS = (OSError, Gone, KeyError, TypeError, ValueError)
"""What comes of a relay that is gone, does not answer, or says what it may not."""


class RelayedCommand(Command):
    """A command whose process is forked by a relay. Where that does not work, it starts as any other does."""

    def __init__(self, launch: dict[str, Any], output: int) -> None:
        super().__init__(launch, output, None)
        self._relay = launch["relay"]
        self._lines: Lines | None = None
        self._end_is_known = False

    @property
    def forks(self) -> bool:
        """True: it is forked in advance, there or here."""
        return not self._launch.get("refused")

    def fork(self) -> None:
        """Have the relay fork the command's process. Raises OSError where that has to be done here and cannot
        be."""
        submitter = self._launch["submitter"]
        try:
            os.fchown(self._output, submitter["uid"], submitter["gid"])  # it may be opened by its path
            self._lines = self._connect()
            launch = {**self._launch, "submitter": None, "relay": None, "cgroup": "", "cgroups": []}
            self._lines.send({"launch": launch}, self._output)
            self.pid = int(self._lines.receive()["forked"])
        except _FAULTS:
            self._do_without()
            return
        self.root = self._relay["pid"]

    def _do_without(self) -> None:
        """Let go of the relay and what it has forked, and fork here. Raises OSError."""
        self._leave()
        self._end_all()
        self.pid, self.root = 0, os.getpid()
        super().fork()

    def _end_all(self) -> None:
        """Kill what is in the attempt's cgroup, and wait until it has gone."""
        until = boot_now() + self._launch["kill_timeout_s"]
        while self._is_populated() and boot_now() < until:
            self._kill()
            time.sleep(0.005)

    def _kill(self) -> None:
        try:
            with open(os.path.join(self._launch["cgroup"], "cgroup.kill"), "w") as file:
                file.write("1")
        except OSError:
            pass  # it was there when the relay was put in

    def _connect(self) -> Lines:
        """Take the connection with the relay, which the daemon holds for it, and put the relay into the
        attempt's cgroup. Raises OSError."""
        daemon = _pin(self._relay["daemon_pid"], self._relay["daemon_ticks"])
        try:
            connection = socket.socket(fileno=_descriptor_of(daemon, self._relay["fd"]))
        finally:
            os.close(daemon)
        connection.settimeout(ANSWER_S)
        relay = _pin(self._relay["pid"], self._relay["ticks"])
        try:
            _check_account(self._relay["pid"], self._launch["submitter"]["uid"])
            cgroup = self._launch["cgroup"]
            os.stat(os.path.join(cgroup, "cgroup.kill"))  # nothing else ends a relay that does not want to
            for group in (cgroup, *self._launch.get("cgroups", ())):
                with open(os.path.join(group, "cgroup.procs"), "w") as file:
                    file.write(str(self._relay["pid"]))
        finally:
            os.close(relay)
        return Lines(connection)

    def dismiss(self) -> None:
        """End what was forked for a command that will not start."""
        if self._lines is None:
            super().dismiss()
        else:
            self._leave()
            self._end_all()

    def start(self, env: dict[str, str], cpus: list[int]) -> None:
        """Start the command, as :meth:`Command.start`: by the relay, if it still is the account that the
        submitter has now. Raises ExecFailed."""
        if self._lines is not None and not (self._is_there(self._lines) and self._is_up_to_date()):
            self._do_without()
        if self._lines is None:
            super().start(env, cpus)
            return
        try:
            self._lines.connection.settimeout(START_S)
            self._lines.send({"go": env, "cpus": cpus})
            answer = self._lines.receive()
            failed = answer.get("failed")
            if failed is not None:
                raise ExecFailed(int(failed[0]), str(failed[1])[:2000])
            mode = answer["started"]
            self.mode = str(mode)[:300] if mode else self.mode
            self._lines.connection.setblocking(False)
        except _FAULTS:
            self._leave()
            self._end_all()  # it may have started
            text = "cannot start: its warm process does not answer any more"
            raise ExecFailed(errno.EAGAIN, text) from None
        finally:
            os.close(self._output)

    @staticmethod
    def _is_there(lines: Lines) -> bool:
        """Return True unless the relay has gone while it waited, or speaks out of turn."""
        poll = select.poll()
        poll.register(lines.connection, select.POLLIN)
        return not poll.poll(0)

    def _is_up_to_date(self) -> bool:
        try:
            return set(identity.look_up(self._launch["submitter"])) == set(self._relay["groups"])
        except (OSError, identity.CannotBecome):
            return False  # the process that is forked here says why

    def collect(self) -> tuple[list[Ended], bool]:
        """Collect what the relay says has ended, and return whether any process is left."""
        if self.root == os.getpid():
            return super().collect()
        found: list[Ended] = []
        if self._lines is not None:
            try:
                self._read(self._lines, found)
            except BlockingIOError:
                return found, True
            except _FAULTS:
                self._leave()
        left = self._is_populated()
        if left and not self._end_is_known:
            self._kill()  # nobody can say any more how the command ends
        self.lost = not left and not self._end_is_known
        return found, left

    def _read(self, lines: Lines, found: list[Ended]) -> None:
        """Take in what has come. Raises one of _FAULTS, at the latest when there is no more."""
        while True:
            while (message := lines.next()) is not None:
                pid, status = int(message["ended"]), int(message["status"])
                cpu_s, rss_bytes = float(message["cpu_s"]), int(message["rss_bytes"])
                if not (0 <= status <= 0xFFFF and 0 <= cpu_s < 1e9 and 0 <= rss_bytes < 1 << 60):
                    raise Gone
                if pid == self.pid and self._end_is_known:
                    continue
                self._end_is_known |= pid == self.pid
                found.append(Ended(pid, status, cpu_s, rss_bytes))
            lines.read()

    def _is_populated(self) -> bool:
        """Return True while a process is in the attempt's cgroup or below it."""
        try:
            with open(os.path.join(self._launch["cgroup"], "cgroup.events")) as file:
                return "populated 1" in file.read()
        except OSError:
            return False

    @property
    def ends_at(self) -> int | None:
        """The connection with the relay, while there is one."""
        return self._lines.connection.fileno() if self._lines is not None else None

    def _leave(self) -> None:
        if self._lines is not None:
            self._lines.connection.close()
            self._lines = None


def _pin(pid: int, ticks: int) -> int:
    """Return a pidfd of exactly this process. Raises OSError."""
    pidfd = os.pidfd_open(pid)
    stat = procfs.read_stat(pid)
    if stat is None or stat.start_ticks != ticks:
        os.close(pidfd)
        raise ProcessLookupError(f"the process {pid} is another one by now")
    return pidfd


def _check_account(pid: int, uid: int) -> None:
    """Raise OSError unless a process, whose number is the account's word, is the account's own: what is put
    into the attempt's cgroup ends with it."""
    for line in (procfs.read_file(pid, "status") or b"").splitlines():
        if line.startswith(b"Uid:") and set(map(int, line.split()[1:])) == {uid}:
            return
    raise PermissionError(f"the process {pid} is not the submitter's")


def _descriptor_of(pidfd: int, fd: int) -> int:
    """Return a copy of another process's descriptor. Raises OSError."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    found: int = libc.syscall(ctypes.c_long(PIDFD_GETFD), pidfd, fd, ctypes.c_uint(0))
    if found < 0:
        raise OSError(ctypes.get_errno(), "the connection with the warm process cannot be taken over")
    return found
