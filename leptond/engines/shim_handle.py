"""A shim as the daemon knows it: its process, its gate and its state."""

from __future__ import annotations

import asyncio
import enum
import os
import signal
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import structlog

from leptond.core.jobs.model import Identity
from leptond.engines import procs
from leptond.engines.gate import Gate
from leptond.engines.warm_choice import Choice

log = structlog.get_logger("leptond.engine")

OVERDUE_S = 15.0
"""The time beyond limit, grace and kill after which a shim counts as stuck (stopped by a signal, say) and is
itself killed."""


class ShimState(enum.Enum):
    """The states of a shim."""

    PREPARING = "preparing"
    """It has the launch description of an attempt and is on its way to its gate."""
    AT_GATE = "at gate"
    """It has said READY and waits for GO."""
    RUNNING = "running"
    """It has been sent GO, by this daemon or an earlier one."""
    ENDED = "ended"
    """It has said ENDED: no process of its attempt is left."""
    RESTING = "resting"
    """It is idle: it has no attempt and takes another one."""
    LOST = "lost"
    """The daemon has let go of it: its process is gone, or ends by itself."""


MOVES: Mapping[ShimState, frozenset[ShimState]] = {
    ShimState.PREPARING: frozenset({ShimState.AT_GATE, ShimState.LOST}),
    ShimState.AT_GATE: frozenset({ShimState.RUNNING, ShimState.LOST}),
    ShimState.RUNNING: frozenset({ShimState.ENDED, ShimState.LOST}),
    ShimState.ENDED: frozenset({ShimState.RESTING, ShimState.LOST}),
    ShimState.RESTING: frozenset({ShimState.PREPARING, ShimState.LOST}),
    ShimState.LOST: frozenset(),
}
"""The states that may follow each state."""


class WrongMove(Exception):
    """A shim was to change to a state that does not follow its own."""


class Process(NamedTuple):
    """A process of ours. The pidfd was opened before its pid could be given to another process."""

    pid: int
    start_ticks: int
    pidfd: int


class Parent(Protocol):
    """The zygote that a shim was forked from, and that keeps it while it is idle."""

    over: bool
    idle: list[ShimHandle]


class ShimHandle:
    """One shim. `gate` is None for a shim of an earlier daemon, and once the gate is shut; `parent` is None
    for one that was not forked and takes one attempt only.

    `port` (the attempt's MASTER_PORT), `command` (its command), `start_mode` (``warm``, ``cold: WHY``),
    `choice` (how it was decided to start) and `gpus_by_index` (its program wants numbers in
    CUDA_VISIBLE_DEVICES) belong to the attempt that it has; and so does `relay`, the warm zygote of its
    submitter's account that its command is forked from.
    """

    def __init__(self, process: Process, gate: Gate | None, parent: Parent | None, state: ShimState) -> None:
        self.pid, self.start_ticks, self.pidfd = process
        self.gate = gate
        self.parent = parent
        self.state = state
        self.port: int | None = None
        self.command: Identity | None = None
        self.start_mode: str | None = None
        self.gpus_by_index = False
        self.relay: Parent | None = None
        self.choice: Choice | None = None
        self._timers: list[asyncio.TimerHandle] = []

    def move(self, state: ShimState) -> None:
        """Change to `state`. What belongs to an attempt goes with it. Raises WrongMove."""
        if state not in MOVES[self.state]:
            raise WrongMove(f"shim {self.pid}: from {self.state.value} to {state.value}")
        self.state = state
        if state is ShimState.RESTING:
            self.port = self.command = self.start_mode = self.choice = self.relay = None
            self._cancel_timers()

    @property
    def has_ended(self) -> bool:
        """True if its process has ended."""
        return procs.has_ended(self.pidfd)

    def later(self, delay_s: float, call: Callable[..., None], *args: object) -> None:
        """Call `call` in `delay_s`, unless its attempt is over by then."""
        self._timers.append(asyncio.get_running_loop().call_later(delay_s, call, *args))

    def wake(self) -> None:
        """Make it check its clock and ``stop.json``, even if it was stopped by a signal."""
        procs.send(self.pidfd, signal.SIGCONT)
        procs.send(self.pidfd, signal.SIGUSR1)

    def kill_if_stopped(self) -> None:
        """Kill it if it is stopped or traced although it was just woken: by its own job, then."""
        if procs.is_stopped(self.pid):
            self.kill_overdue()

    def kill_overdue(self) -> None:
        """Kill it because it does not do its work. The daemon then ends what is left of its attempt."""
        log.warning("shim.overdue", pid=self.pid)
        procs.send(self.pidfd, signal.SIGKILL)

    def shut_gate(self) -> None:
        """End of file: a command that has not started never will, and an idle shim ends."""
        if self.gate is not None:
            self.gate.close()
            self.gate = None

    def close(self) -> None:
        """Let go of it; it goes on by itself."""
        if self.state is not ShimState.LOST:
            self.move(ShimState.LOST)
            self._cancel_timers()
            self.shut_gate()
            os.close(self.pidfd)

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
