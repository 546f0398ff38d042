"""A stop, from its signal until nothing is left to be told: what :mod:`~leptond.engines.shim.stop_plan`
decides is done here, again and again, because processes come and go meanwhile."""

from __future__ import annotations

import os
import resource
import signal
import time

from leptond.base import procfs
from leptond.engines.shim import stop_plan
from leptond.engines.shim.clock import boot_now
from leptond.engines.shim.processes import open_pipes, read_processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from leptond.engines.shim.stop_plan import Plan, Process

ROUNDS = 20
"""How often the tree is looked at for what was started while the rest of it was being held."""
HELD_WITHIN_S = 0.2
LOOK_S = 0.01
"""The interval of looks at those that were told; longer ones later (:meth:`Stopping.look`)."""
SEARCH_S = 0.5
"""The interval of looks at the whole tree."""
DRAIN_BYTES = 1 << 20


def send_to(pid: int, start_ticks: int, number: int) -> bool:
    """Signal exactly this process; False when it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        stat = procfs.read_stat(pid)
        if stat is None or stat.start_ticks != start_ticks:
            return False
        signal.pidfd_send_signal(pidfd, number)
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True


def warn(number: int, only: int | None = None, *, root: int | None = None) -> int:
    """Send a warning to the programs below `root` (None: this process) that hear it, or to the command
    `only`; return how many they were."""
    table = read_processes(root if root is not None else os.getpid())
    told = stop_plan.warned(table, _roots(table), number, only=only)
    return sum(_tell(table[pid], number) for pid in told)


class Stopping:
    """One stop by SIGTERM of what is below `root` (None: this process). `linger_s`: how long what is left at
    the end may take to end by itself; `grace_s`: the time that programs have. `due` is when :meth:`look`
    wants to be called again."""

    def __init__(self, *, grace_s: float, linger_s: float, root: int | None = None) -> None:
        self._root = root if root is not None else os.getpid()
        self._grace_s = grace_s
        self._linger_s = linger_s
        self._began = boot_now()
        self._told: dict[int, int] = {}  # pid and start time
        self._deaf: set[int] = set()  # told, and does not care
        self._programs: set[int] = set()  # told, and hears it
        self._traps: set[int] = set()  # held, and does something of its own when it is told
        self._held: dict[int, int] = {}
        self._withheld: dict[int, int] = {}
        self._barred: set[int] = set()  # withheld, and cannot start anything
        self._left: set[int] = set()  # ends by itself
        self._seen: set[int] = set()
        self._roots: set[int] = set()
        self._pipes: list[int] = []
        self._idle_since: dict[int, float] = {}  # withheld, with nothing left to wait for
        self._sweep_at: float | None = None
        self._searched_at = 0.0
        self.due: float | None = None
        self.swept = 0
        """The number of processes that were left when all that was told, or waited for it, had gone."""

    def begin(self) -> None:
        """Hold what only waits, tell the programs."""
        self._search(set())

    def look(self, now: float) -> None:
        """Let go of what waited for a program that has ended; tell what is left in the end. Does nothing
        before it is due."""
        if self.due is None or now < self.due:
            return
        self._drain()
        gone = {pid for pid, ticks in self._awaited().items() if not _lives(pid, ticks)}
        if gone or now >= self._searched_at + SEARCH_S or self._sweep_at is not None:
            for pid in gone:
                for known in (self._told, self._held, self._withheld):
                    known.pop(pid, None)
            self._searched_at = now
            self._release(now)
        passed = now - self._began
        self.due = now + (LOOK_S if passed < 1 else 2 * LOOK_S if passed < 10 else 5 * LOOK_S)

    def close(self) -> None:
        """Let go of the pipes."""
        for fd in self._pipes:
            os.close(fd)
        self._pipes.clear()

    # -- the steps ---------------------------------------------------------------------------------

    def _search(self, known: set[int]) -> None:
        """Hold and tell what is in the tree now, except for those in `known`."""
        for _ in range(ROUNDS):
            table = self._read()
            if not self._roots:
                self._roots = set(_roots(table))
            now = stop_plan.plan(
                table,
                [pid for pid in self._roots if pid in table],
                signal.SIGTERM,
                told=self._told,
                held={*self._held, *self._withheld},
            )
            fresh = [pid for pid in now.hold if pid not in known]
            if not fresh:
                break
            self._hold(table, fresh, now)
        self._seen.update(table)
        self._left |= now.leave - known
        for pid in now.withhold:
            if pid not in known:
                self._withheld[pid] = table[pid].start_ticks
        self._barred.update(pid for pid in now.bar if pid not in known and _bar(pid))
        for pid in now.tell:
            if pid not in known and pid not in self._told:
                self._told[pid] = table[pid].start_ticks
                if table[pid].ignores_signal(signal.SIGTERM):
                    self._deaf.add(pid)
                elif table[pid].hears(signal.SIGTERM):
                    self._programs.add(pid)
                _tell(table[pid], signal.SIGTERM)
        self.due = boot_now() + LOOK_S

    def _hold(self, table: Mapping[int, Process], fresh: list[int], now: Plan) -> None:
        for pid in fresh:
            self._keep_pipes(pid, now.drain.get(pid, set()))
            if send_to(pid, table[pid].start_ticks, signal.SIGSTOP):
                self._held[pid] = table[pid].start_ticks
                if table[pid].hears(signal.SIGTERM):
                    self._traps.add(pid)
        until = boot_now() + HELD_WITHIN_S
        for pid in fresh:
            while boot_now() < until:
                stat = procfs.read_stat(pid)
                if stat is None or stat.stopped or stat.ended:
                    break
                time.sleep(0.001)

    def _keep_pipes(self, pid: int, pipes: set[int]) -> None:
        """Read in place of a shell that is held: what its program writes must not fill the pipe."""
        for fd, pipe, _ in open_pipes(pid):
            if pipe in pipes:
                pipes = pipes - {pipe}
                try:
                    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
                    self._pipes.append(os.open(f"/proc/{pid}/fd/{fd}", flags))
                except OSError:
                    continue  # not ours to see: 64 KiB have to do

    def _drain(self) -> None:
        for fd in self._pipes:
            left = DRAIN_BYTES
            try:
                while left > 0 and (data := os.read(fd, 65536)):
                    left -= len(data)
            except OSError:
                continue  # empty

    def _release(self, now: float) -> None:
        table = self._read()
        concerned = {*self._told, *self._held, *self._withheld, *self._left} - self._deaf
        free = stop_plan.released(table, {*self._held, *self._withheld}, concerned)
        saving = {pid for pid in self._programs if pid in self._told}
        for pid in free:
            # what a trap does (kill 0, rm -r) must not meet a program that is still saving, unless that waits
            if pid in self._traps and saving - set(_above(table, pid)):
                continue
            if pid in self._held:
                self._told[pid] = self._held.pop(pid)
                _tell(table[pid], signal.SIGTERM)
            elif pid in self._barred or now >= self._idle_since.setdefault(pid, now) + self._linger_s:
                self._told[pid] = self._withheld.pop(pid)
                _tell(table[pid], signal.SIGTERM)
        if self._withheld:
            self._search(set(self._seen))  # what it starts meanwhile
        self._seen.update(table)
        if any(pid not in self._deaf for pid in self._awaited()) or not table:
            self._sweep_at = None
        elif self._sweep_at is None:
            self._sweep_at = now + self._linger_s
        elif now >= self._sweep_at:
            self._sweep_at = None
            self._roots = set(_roots(table))
            before = len(self._told) + len(self._held)
            self._left.clear()
            self._search(set(self._told))
            self.swept += len(self._told) + len(self._held) - before

    # -- helpers -----------------------------------------------------------------------------------

    def _read(self) -> dict[int, Process]:
        return read_processes(self._root, self._grace_s)

    def _awaited(self) -> dict[int, int]:
        """Those that decide when the stop is over."""
        return {**self._told, **self._held, **self._withheld}


def _roots(table: Mapping[int, Process]) -> list[int]:
    return [pid for pid, one in table.items() if one.parent not in table]


def _above(table: Mapping[int, Process], pid: int) -> Iterator[int]:
    seen: set[int] = set()
    while (one := table.get(pid)) is not None and one.parent not in seen:
        seen.add(pid := one.parent)
        yield pid


def _bar(pid: int) -> bool:
    """Take from a process the means to start another one: without descriptors no program can be loaded."""
    try:
        for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC):
            resource.prlimit(pid, limit, (0, resource.prlimit(pid, limit)[1]))
    except (OSError, ValueError):
        return False
    return True


def _lives(pid: int, start_ticks: int) -> bool:
    stat = procfs.read_stat(pid)
    return stat is not None and stat.start_ticks == start_ticks and not stat.ended


def _tell(process: Process, number: int) -> bool:
    """Send the signal; wake one that is stopped, and no other: SIGCONT would be a signal like any other to a
    program that has a handler for it."""
    told = send_to(process.pid, process.start_ticks, number)
    if process.state in "Tt":
        send_to(process.pid, process.start_ticks, signal.SIGCONT)
    return told
