"""The plain queues: one order, and a rule for what does not fit."""

from __future__ import annotations

from leptond.core.scheduling.plan_builder import PlanBuilder


def fifo(builder: PlanBuilder) -> None:
    """Strictly in order of submission: nobody passes a job that does not fit. A job that a cap bars is
    passed all the same, for it waits for no GPU."""
    for job in builder.queue(builder.by_submit_time):
        if not builder.start(job) and builder.blocking_limit(job) is None:
            builder.reserve(job)
            builder.disable_backfill()
            return


def firstfit(builder: PlanBuilder) -> None:
    """In order of submission, and what does not fit is passed over; once that has gone on for
    `max_bypass_s`, the GPUs that come free are kept for it. With 0 it goes on as long as it takes."""
    patience_s = builder.policy.max_bypass_s
    for job in builder.queue(builder.by_submit_time):
        if not builder.free:
            return
        if builder.start(job) or builder.reservation is not None or not patience_s:
            continue
        if builder.now - job.since >= patience_s and builder.blocking_limit(job) is None:
            builder.reserve(job)
            builder.disable_backfill()
            if builder.reserves_any_gpu:
                return


def shortest(builder: PlanBuilder) -> None:
    """The shortest expected run first, what does not fit is passed over. The mean wait is short, that of
    long and wide jobs is without bound."""
    for job in builder.queue(builder.by_expected_run):
        if not builder.free:
            return
        builder.start(job)
