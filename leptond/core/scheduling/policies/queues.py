"""The plain queues: one order, and a rule for what does not fit."""

from __future__ import annotations

from leptond.core.scheduling.plan_builder import Turn


def fifo(turn: Turn) -> None:
    """Strictly in order of submission: nobody passes a job that does not fit. A job that a cap bars is
    passed all the same, for it waits for no GPU."""
    for job in turn.queue(turn.submitted):
        if not turn.start(job) and turn.barred(job) is None:
            turn.reserve(job)
            turn.close()
            return


def firstfit(turn: Turn) -> None:
    """In order of submission, and what does not fit is passed over; once that has gone on for
    `max_bypass_s`, the GPUs that come free are kept for it. With 0 it goes on as long as it takes."""
    patience_s = turn.policy.max_bypass_s
    for job in turn.queue(turn.submitted):
        if not turn.free:
            return
        if turn.start(job) or turn.kept is not None or not patience_s:
            continue
        if turn.now - job.since >= patience_s and turn.barred(job) is None:
            turn.reserve(job)
            turn.close()
            if turn.nobody_beside:
                return


def shortest(turn: Turn) -> None:
    """The shortest expected run first, what does not fit is passed over. The mean wait is short, that of
    long and wide jobs is without bound."""
    for job in turn.queue(turn.shortest):
        if not turn.free:
            return
        turn.start(job)
