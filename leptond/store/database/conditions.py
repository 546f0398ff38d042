"""Conditions on the state of a job or an attempt as SQL text, made from the values of core.

Each begins with the column, so that a table may stand before it: ``f"jobs.{IS_LIVE}"``. The words and their
order are those of the partial indexes: SQLite uses such an index only for the same text."""

from __future__ import annotations

from collections.abc import Collection

from leptond.core.jobs.states import LIVE, TERMINAL, AttemptState, State


def state_in(states: Collection[State]) -> str:
    """The condition that a job or a compact array is in one of `states`."""
    return f"state IN ({', '.join(repr(str(state)) for state in State if state in states)})"


IS_PENDING = f"state = '{State.PENDING}'"

IS_READY = f"{IS_PENDING} AND held = 0 AND deps_waiting = 0 AND deps_failed = 0"
"""Pending, and neither held nor waiting for other jobs; begin times and backoffs apart."""

IS_LIVE = state_in(LIVE)

IS_TERMINAL = state_in(TERMINAL)

ATTEMPT_LIVES = f"state <> '{AttemptState.ENDED}'"

ATTEMPT_ENDED = f"state = '{AttemptState.ENDED}'"

ATTEMPT_RUNS = f"state = '{AttemptState.RUNNING}'"
