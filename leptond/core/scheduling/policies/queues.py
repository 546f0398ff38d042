"""The plain policies: one order, and one rule for jobs that do not fit."""

from __future__ import annotations

from leptond.core.scheduling.plan_builder import PlanBuilder


def fifo(builder: PlanBuilder) -> None:
    """Schedule strictly by effective submit time: no job starts before one that does not fit.

    Jobs that a limit blocks are skipped, for they do not wait for GPUs."""
    for job in builder.queue(builder.by_submit_time):
        if not builder.start(job) and builder.blocking_limit(job) is None:
            builder.reserve(job)
            builder.disable_backfill()
            return


def firstfit(builder: PlanBuilder) -> None:
    """Schedule by effective submit time and skip jobs that do not fit.

    Once a job has waited for `max_bypass_s`, GPUs are reserved for it (0: never)."""
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
    """Schedule the shortest expected run first and skip jobs that do not fit.

    The mean wait is short; that of long and wide jobs is unbounded."""
    for job in builder.queue(builder.by_expected_run):
        if not builder.free:
            return
        builder.start(job)
