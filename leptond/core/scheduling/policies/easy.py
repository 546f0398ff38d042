"""EASY backfill (D. Lifka, "The ANL/IBM SP Scheduling System", 1995)."""

from __future__ import annotations

from leptond.core.scheduling.plan_builder import Turn


def easy(turn: Turn) -> None:
    """In order of submission; the first that does not fit is promised a time, and others pass it only if
    they cannot delay that. For those who want promises: on one machine they cost half of its speed."""
    for job in turn.queue(turn.submitted):
        if not turn.start(job) and turn.kept is None and turn.barred(job) is None:
            turn.reserve(job)
        if not turn.free:
            return
