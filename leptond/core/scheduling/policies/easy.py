"""EASY backfill (D. Lifka, "The ANL/IBM SP Scheduling System", 1995)."""

from __future__ import annotations

from leptond.core.scheduling.plan_builder import PlanBuilder


def easy(builder: PlanBuilder) -> None:
    """In order of submission; the first that does not fit is promised a time, and others pass it only if
    they cannot delay that. For those who want promises: on one machine they cost half of its speed."""
    for job in builder.queue(builder.by_submit_time):
        if not builder.start(job) and builder.reservation is None and builder.blocking_limit(job) is None:
            builder.reserve(job)
        if not builder.free:
            return
