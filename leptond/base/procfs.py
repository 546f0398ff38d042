"""Processes as /proc shows them: the one parser of ``/proc/PID/stat``, and the tree of processes.

Little but the standard library's core is imported here: shims and zygotes load this module at their start.
"""

from __future__ import annotations

import errno
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors that say something of this process and nothing of the one that was to be examined."""

FIRST_FIELD = 3
"""The number (proc_pid_stat(5)) of the first field behind the name, which may hold anything."""


class Stat:
    """The fields of ``/proc/PID/stat`` from the third on."""

    __slots__ = ("_fields",)

    def __init__(self, text: bytes) -> None:
        self._fields = text[text.rfind(b")") + 2 :].split()

    def number(self, field: int) -> int:
        """Return a numeric field by its number in proc_pid_stat(5)."""
        return int(self._fields[field - FIRST_FIELD])

    @property
    def state(self) -> str:
        """The state letter, such as R, S or Z."""
        return self._fields[0].decode("ascii", "replace")

    @property
    def parent(self) -> int:
        """The pid of the parent."""
        return self.number(4)

    @property
    def group(self) -> int:
        """The process group."""
        return self.number(5)

    @property
    def session(self) -> int:
        """The session."""
        return self.number(6)

    @property
    def start_ticks(self) -> int:
        """The start time in clock ticks since boot."""
        return self.number(22)

    @property
    def ended(self) -> bool:
        """True for a process that only waits to be collected. One whose main thread has ended looks like a
        zombie too, but its other threads go on (field 20 counts them)."""
        return self.state in "ZX" and self.number(20) <= 1

    @property
    def exiting(self) -> bool:
        """True for a process that is about to end: its only thread is on its way out (PF_EXITING)."""
        return bool(self.number(9) & 0x4) and self.number(20) <= 1

    @property
    def stopped(self) -> bool:
        """True for a process that is stopped by a signal or by a tracer."""
        return self.state in "Tt"


def read_file(pid: int | str, name: str, *, strict: bool = False) -> bytes | None:
    """Return the content of ``/proc/PID/NAME``; None when the process is gone or the file is not readable for
    this user. With `strict`, raise OSError when this process lacks the descriptors or the memory to read it:
    a caller that took the process for gone then would start a second copy beside it."""
    try:
        fd = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = b""
            while part := os.read(fd, 65536):
                data += part
            return data
        finally:
            os.close(fd)
    except OSError as error:
        if strict and error.errno in SHORTAGES:
            raise
        return None


def read_stat(pid: int | str, *, strict: bool = False) -> Stat | None:
    """Return the stat of a process; None when it is gone. `strict` as in :func:`read_file`."""
    text = read_file(pid, "stat", strict=strict)
    return Stat(text) if text else None


def all_pids() -> Iterator[int]:
    """Yield the pid of every process in /proc."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            yield int(entry)


def parent(pid: int) -> int:
    """Return the pid of a process's parent; 0 when it is gone."""
    stat = read_stat(pid)
    return stat.parent if stat is not None else 0


def is_dying(pid: int) -> bool:
    """Return True if a process has ended, is about to, or has been sent a SIGKILL."""
    lines = (read_file(pid, "status") or b"").splitlines()
    pending = [int(line.split()[1], 16) for line in lines if line.startswith((b"SigPnd:", b"ShdPnd:"))]
    stat = read_stat(pid)  # after the signals: it may have ended meanwhile, and they are gone then
    killed = any(mask >> (signal.SIGKILL - 1) & 1 for mask in pending)
    return killed or stat is None or stat.ended or stat.exiting


def descendants(root: int) -> dict[int, int]:
    """Return pid and process group of every process below `root`, without zombies."""
    found = {pid: stat for pid in all_pids() if (stat := read_stat(pid)) is not None}
    children: dict[int, list[int]] = {}
    for pid, stat in found.items():
        children.setdefault(stat.parent, []).append(pid)
    below: dict[int, int] = {}
    fresh = [root]
    while fresh:
        for pid in children.get(fresh.pop(), ()):
            fresh.append(pid)
            if not found[pid].ended:
                below[pid] = found[pid].group
    return below
