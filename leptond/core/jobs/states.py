"""The states of a job, the legal moves between them, and what an attempt's end makes of its job. Standard
library only: leptonctl has its lists of states from here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any


class State(StrEnum):
    """The state of a job. Terminal states never change again."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"


_ENDS = frozenset({State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED, State.LOST})

LEGAL: Mapping[State, frozenset[State]] = {
    State.PENDING: frozenset({State.STARTING, State.CANCELLED}),
    State.STARTING: frozenset({State.RUNNING, State.STOPPING, State.PENDING}) | _ENDS,
    State.RUNNING: frozenset({State.STOPPING, State.PENDING}) | _ENDS,
    State.STOPPING: frozenset({State.PENDING}) | _ENDS,
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.TIMED_OUT: frozenset(),
    State.CANCELLED: frozenset(),
    State.LOST: frozenset(),
}
"""The only place that says which state may follow which. The database enforces the same table (a test
compares the two), the documentation draws it."""

LIVE = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
"""States in which an attempt exists and its GPUs are leased."""

TERMINAL = frozenset(state for state, following in LEGAL.items() if not following)

UNFINISHED = frozenset(State) - TERMINAL


class AttemptState(StrEnum):
    """The state of an attempt. Its end is final."""

    STARTING = "starting"
    """Claimed: its GPUs are leased, and its shim is prepared or comes up."""
    RUNNING = "running"
    STOPPING = "stopping"
    """A stop was asked for; its processes may still run."""
    ENDED = "ended"


LEGAL_ATTEMPT: Mapping[AttemptState, frozenset[AttemptState]] = {
    AttemptState.STARTING: frozenset({AttemptState.RUNNING, AttemptState.STOPPING, AttemptState.ENDED}),
    AttemptState.RUNNING: frozenset({AttemptState.STOPPING, AttemptState.ENDED}),
    AttemptState.STOPPING: frozenset({AttemptState.ENDED}),
    AttemptState.ENDED: frozenset(),
}
"""The moves of an attempt. The database enforces that an end is final, that an attempt ends after its leases,
and that a job has one attempt that has not ended (a test compares them)."""


class FailureClass(StrEnum):
    """The class of an attempt's end (rules: :mod:`leptond.core.outcome.classify`)."""

    OK = "ok"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    CONFIG = "config"
    USER = "user"
    USER_OOM_GPU = "user-oom-gpu"
    INFRA_OOM_GPU = "infra-oom-gpu"
    OOM_HOST = "oom-host"
    TEMPFAIL = "tempfail"
    INFRA_GPU = "infra-gpu"
    APP_GPU = "app-gpu"
    HANG = "hang"
    SIGNAL = "signal"
    EXTERNAL_KILL = "external-kill"
    INFRA_NODE = "infra-node"
    DIVERGED = "diverged"
    NEVER_STARTED = "never-started"
    PREEMPTED = "preempted"
    STOPPED_EARLY = "stopped-early"


class IllegalTransition(ValueError):
    """A move that the table of legal transitions does not hold."""

    def __init__(self, old: State, new: State) -> None:
        super().__init__(f"a job cannot go from {old} to {new}")


def move(old: State, new: State) -> State:
    """`new`, if a job may go there from `old`. Raises IllegalTransition, which names both.

    >>> move(State.PENDING, State.STARTING)
    <State.STARTING: 'starting'>
    """
    if new not in LEGAL[old]:
        raise IllegalTransition(old, new)
    return new


def end_state(cause: FailureClass) -> State:
    """The terminal state of a job whose last attempt ended with `cause`."""
    match cause:
        case FailureClass.OK:
            return State.SUCCEEDED
        case FailureClass.CANCELLED | FailureClass.STOPPED_EARLY:
            return State.CANCELLED
        case FailureClass.TIMEOUT:
            return State.TIMED_OUT
        case FailureClass.INFRA_NODE | FailureClass.NEVER_STARTED:
            return State.LOST
        case _:
            return State.FAILED


def diagram() -> str:
    """The legal transitions of a job as a Mermaid state diagram, for the documentation."""
    return _drawn(State.PENDING, LEGAL)


def attempt_diagram() -> str:
    """The legal transitions of an attempt as a Mermaid state diagram, for the documentation."""
    return _drawn(AttemptState.STARTING, LEGAL_ATTEMPT)


def _drawn(first: StrEnum, legal: Mapping[Any, frozenset[Any]]) -> str:
    lines = ["stateDiagram-v2", f"    [*] --> {first}"]
    for old, following in legal.items():
        lines += [f"    {old} --> {new}" for new in type(first) if new in following]
    lines += [f"    {state} --> [*]" for state in type(first) if not legal[state]]
    return "\n".join(lines)
