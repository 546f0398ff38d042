"""Signals to the processes of an attempt, and the kill that nothing escapes."""

from __future__ import annotations

import os
import signal

from leptond.base import procfs
from leptond.engines.shim.clock import boot_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_ROUNDS = 20
CHASE_S = 0.02
"""The time that one round spends on what forks and exits faster than /proc is listed."""


def send(pid: int, number: int, uid: int | None = None, root: int | None = None) -> None:
    """Signal a descendant. The shim is its reaper, so its pid cannot have been given to another process while
    it is in the tree and has not been collected; but its own parent may have collected it meanwhile. So where
    jobs run as their submitters, the signal is sent with the rights of that account (`uid`): it can reach no
    process of anybody else."""
    try:
        _signal(os.kill, pid, number, uid)
    except ProcessLookupError:
        pass
    except PermissionError:  # it runs a program that has taken on another user
        if uid is not None:
            _send_pinned(pid, number, root if root is not None else os.getpid())


def _signal(call: Callable[[int, int], None], target: int, number: int, uid: int | None) -> None:
    """Send a signal with the rights of `uid`, which may not signal this process meanwhile: its real user
    stays root. Raises OSError."""
    if not uid:
        call(target, number)
        return
    os.seteuid(uid)
    try:
        call(target, number)
    finally:
        os.seteuid(0)


def _send_pinned(pid: int, number: int, root: int) -> None:
    """Signal a process of another account, if it is a descendant of `root` while its pid cannot change
    hands."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if pid in procfs.descendants(root):
            signal.pidfd_send_signal(pidfd, number)
    except OSError:
        pass  # it has ended
    finally:
        os.close(pidfd)


def has_children() -> bool:
    """Return True if this process has any children, ended or not."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


class Killer:
    """Kills all descendants of `root` (None: this process), in as many rounds as it takes. `reap` collects
    what has ended and returns True while any is left. `uid`: the account that they run under, where it is
    not this process's own."""

    def __init__(
        self, cgroup: str, reap: Callable[[], bool], uid: int | None = None, *, root: int | None = None
    ) -> None:
        self._cgroup = cgroup
        self._uid = uid
        self._root = root if root is not None else os.getpid()
        self._without_effect = 0
        self._reap = reap
        self._signalled: set[int] = set()  # has been sent a SIGKILL

    def round(self) -> None:
        """Kill what is there now."""
        if self._cgroup and self._may_kill_all():
            try:
                with open(os.path.join(self._cgroup, "cgroup.kill"), "w") as file:
                    file.write("1")
            except OSError:
                pass  # before Linux 5.14; the walk below does it
        self._round()

    def _may_kill_all(self) -> bool:
        """Return True unless a relay has still to say how its command ends: it is in the cgroup too. One that
        does not end by itself, when nothing is left below it, has had its time."""
        if self._root == os.getpid():
            return True
        self._without_effect += not procfs.descendants(self._root)
        stat = procfs.read_stat(self._root)
        return stat is None or stat.ended or self._without_effect > PATIENCE_ROUNDS

    def _round(self) -> None:
        # stopped first, so that nothing forks away while the rest is being killed
        seen: set[int] = set()
        for _ in range(20):
            fresh = {pid: group for pid, group in procfs.descendants(self._root).items() if pid not in seen}
            if not fresh:
                break
            for pid in fresh:
                send(pid, signal.SIGSTOP, self._uid, self._root)
            seen.update(fresh)
        left = procfs.descendants(self._root)
        for pid, group in left.items():
            send(pid, signal.SIGKILL, self._uid, self._root)
            kill_group(group, self._uid)
        if not left or not left.keys() <= self._signalled:
            self._chase()
        self._signalled.update(left)

    def _chase(self) -> None:
        """Catch what forks and exits faster than /proc can be listed: the newest pid of the machine is in
        /proc/loadavg, and reading it costs microseconds."""
        end = boot_now() + CHASE_S
        us = self._root
        while self._reap() and boot_now() < end:
            with open("/proc/loadavg", "rb") as file:
                newest = int(file.read().split()[-1])
            for pid in range(newest, max(1, newest - 4), -1):
                stat = procfs.read_stat(pid)
                if stat is None or stat.ended:
                    continue
                if stat.parent == us or (stat.parent > 1 and procfs.parent(stat.parent) == us):
                    send(pid, signal.SIGKILL, self._uid, self._root)
                    kill_group(stat.group, self._uid)


def kill_group(group: int, uid: int | None = None) -> None:
    """Kill a process group: the kernel lets no member fork meanwhile. All members are of the command's
    sessions, because a process cannot join a group of another session. `uid` as in :func:`send`."""
    if group > 1 and group != os.getpgrp():
        try:
            _signal(os.killpg, group, signal.SIGKILL, uid)
        except (ProcessLookupError, PermissionError):
            pass
