"""Limits of retention: how long finished things are kept."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from leptond.base.section import NotNegative, Section


class RetentionLimits(Section, frozen=True, kw_only=True):
    """Times of retention after a job has ended; 0 means for ever. `job_age_s`: the job itself, its attempts
    and their files; `max_jobs`: the oldest finished jobs beyond so many go. `log_age_s`: the output of an
    attempt, while the job stays; `log_total_bytes`: the oldest outputs go when all of them are larger.
    `event_age_s`: rows of the sequence of events. `checkpoints`: with the last job that used them, its
    checkpoints go too. What an unfinished job still needs stays: what it depends on, its array, its
    checkpoints."""

    job_age_s: NotNegative = 90 * 86400.0
    max_jobs: Annotated[int, Meta(ge=0)] = 1_000_000
    log_age_s: NotNegative = 30 * 86400.0
    log_total_bytes: Annotated[int, Meta(ge=0)] = 0
    event_age_s: NotNegative = 90 * 86400.0
    checkpoints: bool = False


UNLIMITED = RetentionLimits(job_age_s=0.0, max_jobs=0, log_age_s=0.0, log_total_bytes=0, event_age_s=0.0)
"""Nothing goes by itself: for single limits, with :func:`msgspec.structs.replace`."""
