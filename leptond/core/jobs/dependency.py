"""What the end of a job means to those that wait for it. Pure."""

from __future__ import annotations

from leptond.core.jobs.model import DependencyKind
from leptond.core.jobs.states import State


def satisfied(kind: DependencyKind, end: State) -> bool:
    """Return True if a job that ended as `end` satisfies a dependency of this kind."""
    match kind:
        case DependencyKind.ANY:
            return True
        case DependencyKind.OK:
            return end is State.SUCCEEDED
        case DependencyKind.FAIL:
            return end is not State.SUCCEEDED


_ENDED = {
    State.TIMED_OUT: "ran into its time limit",
    State.CANCELLED: "was cancelled",
    State.LOST: "was lost",
}


def never_sentence(cause: str, end: State, before: str | None) -> str:
    """The reason why a job can never start: job `cause` ended so, and `before` (None: nothing in between),
    which it waits for, can never run because of that.

    >>> never_sentence("1", State.FAILED, "2")
    'job 1 failed, so job 2, which it waits for, can never run'
    """
    ended = _ENDED.get(end, str(end))
    if before is None:
        return f"job {cause} {ended}, so it can never run"
    return f"job {cause} {ended}, so job {before}, which it waits for, can never run"
