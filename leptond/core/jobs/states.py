"""Moves between states, and what an attempt's end makes of its job."""

from __future__ import annotations

from leptond.core.jobs.model import LEGAL, TERMINAL, FailureClass, State


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
    """The legal transitions as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.PENDING}"]
    for old, following in LEGAL.items():
        lines += [f"    {old} --> {new}" for new in State if new in following]
    lines += [f"    {state} --> [*]" for state in State if state in TERMINAL]
    return "\n".join(lines)
