"""Signals to the processes of an attempt, and the kill that nothing escapes."""

from __future__ import annotations

import os
import signal

from leptond.base import procfs
from leptond.engines.shim.clock import boot_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CHASE_S = 0.02
"""The time that one round spends on what forks and exits faster than /proc is listed."""


def send(pid: int, number: int) -> None:
    """Signal a descendant. The shim is its reaper, so its pid cannot have been given to another process while
    it is in the tree and has not been collected."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def has_children() -> bool:
    """Return True if this process has any children, ended or not."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


class Killer:
    """Kills all descendants of this process, in as many rounds as it takes. `reap` collects what has ended
    and returns True while any is left."""

    def __init__(self, cgroup: str, reap: Callable[[], bool]) -> None:
        self._cgroup = cgroup
        self._reap = reap
        self._signalled: set[int] = set()  # has been sent a SIGKILL

    def round(self) -> None:
        """Kill what is there now."""
        if self._cgroup:
            try:
                with open(os.path.join(self._cgroup, "cgroup.kill"), "w") as file:
                    file.write("1")
            except OSError:
                pass  # before Linux 5.14; the walk below does it
        # stopped first, so that nothing forks away while the rest is being killed
        seen: set[int] = set()
        for _ in range(20):
            fresh = {pid: group for pid, group in procfs.descendants(os.getpid()).items() if pid not in seen}
            if not fresh:
                break
            for pid in fresh:
                send(pid, signal.SIGSTOP)
            seen.update(fresh)
        left = procfs.descendants(os.getpid())
        for pid, group in left.items():
            send(pid, signal.SIGKILL)
            kill_group(group)
        if not left or not left.keys() <= self._signalled:
            self._chase()
        self._signalled.update(left)

    def _chase(self) -> None:
        """Catch what forks and exits faster than /proc can be listed: the newest pid of the machine is in
        /proc/loadavg, and reading it costs microseconds."""
        end = boot_now() + CHASE_S
        us = os.getpid()
        while self._reap() and boot_now() < end:
            with open("/proc/loadavg", "rb") as file:
                newest = int(file.read().split()[-1])
            for pid in range(newest, max(1, newest - 4), -1):
                stat = procfs.read_stat(pid)
                if stat is None or stat.ended:
                    continue
                if stat.parent == us or (stat.parent > 1 and procfs.parent(stat.parent) == us):
                    send(pid, signal.SIGKILL)
                    kill_group(stat.group)


def kill_group(group: int) -> None:
    """Kill a process group: the kernel lets no member fork meanwhile. All members are of the command's
    sessions, because a process cannot join a group of another session."""
    if group > 1 and group != os.getpgrp():
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
