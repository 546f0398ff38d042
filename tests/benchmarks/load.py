"""The load that a benchmark runs under: none, or a process that spins on every core.

Spinning processes have ordinary priority, as data loaders have. They belong to the run: they are its
children, and end with it whatever becomes of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Literal

LoadName = Literal["quiet", "busy"]
LOADS: tuple[LoadName, ...] = ("quiet", "busy")

SPIN = """\
import os, sys
parent = int(sys.argv[1])
while os.getppid() == parent:
    for _ in range(100_000): pass
"""
UP_S = 0.05
"""Processor time after which a process counts as spinning."""
START_S = 60.0
LEAST_SHARE = 0.05
"""Share of a core below which a process has not been spinning: what is measured leaves it more than that."""


def spin() -> subprocess.Popen[bytes]:
    """Start a process that spins as long as this process is its parent. It is told which that is: one that
    looked for itself could look when its parent has ended already."""
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", SPIN, str(os.getpid())])


class NotBusy(RuntimeError):
    """The cores were not busy although the run said so: its figures would be wrong."""


def process_cpu_s(pid: int) -> float:
    """Return the processor time of a process, with that of its ended threads. Raises OSError when it is
    gone."""
    # the id of its CPU clock as clock_getcpuclockid(3) makes it: CPUCLOCK_SCHED of a whole process
    return time.clock_gettime((~pid << 3) | 2)


class Load:
    """The load of a run. `share` is, after :meth:`on`, the share of all cores that the spinning processes
    had."""

    def __init__(self, name: LoadName = "quiet") -> None:
        self.name = name
        self.share: float | None = None
        self._spinning: list[subprocess.Popen[bytes]] = []
        self._paused_s = 0.0

    @contextlib.contextmanager
    def on(self) -> Iterator[Load]:
        """Keep all cores busy, unless the load is quiet. Raises NotBusy when they were not."""
        if self.name == "quiet":
            yield self
            return
        try:
            for _ in os.sched_getaffinity(0):
                self._spinning.append(spin())
            self._wait_until_up()
            begin, before, self._paused_s = time.monotonic(), self._cpu_s(), 0.0
            yield self
            self._check(time.monotonic() - begin - self._paused_s, before)
        finally:
            self._end()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the spinning for preparations that are not measured."""
        begin = time.monotonic()
        for process in self._spinning:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in self._spinning:
                process.send_signal(signal.SIGCONT)
            self._paused_s += time.monotonic() - begin

    def pids(self) -> list[int]:
        """Return the pids of the spinning processes."""
        return [process.pid for process in self._spinning]

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + START_S
        while min(self._cpu_s()) < UP_S:
            if time.monotonic() > deadline:
                raise NotBusy(f"processes that should spin have not begun after {START_S:.0f} s")
            time.sleep(0.01)

    def _check(self, seconds: float, before: Sequence[float]) -> None:
        used = [after - at for after, at in zip(self._cpu_s(), before, strict=True)]
        self.share = sum(used) / (seconds * len(used))
        if min(used) < LEAST_SHARE * seconds:
            least = min(used) / seconds
            raise NotBusy(
                f"a process that should spin had {100 * least:.1f}% of a core: the cores were not kept busy"
            )

    def _cpu_s(self) -> list[float]:
        for process in self._spinning:
            if process.poll() is not None:
                raise NotBusy(f"a process that should spin has ended with {process.returncode}")
        return [process_cpu_s(process.pid) for process in self._spinning]

    def _end(self) -> None:
        for process in self._spinning:
            process.kill()
        for process in self._spinning:
            process.wait()
        self._spinning = []
