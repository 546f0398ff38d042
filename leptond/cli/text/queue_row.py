"""A job in one line of the queue."""

from __future__ import annotations

from leptond.cli.text import phrases


def queue_row(job: phrases.Body, *, table: bool) -> list[str | int | float | None]:
    """A job as a row of ``leptonctl queue``."""
    array = table and phrases.is_array(job)
    reason = phrases.reason_of(job)
    if array:
        reason = phrases.members_of(job) + (f"; {reason}" if reason else "")
    return [
        f"{job['array_id']}_*" if array else job["ref"],
        job["name"],
        job["user"],
        phrases.gpus_of(job, table=table),
        job["priority"],
        job["state"],
        phrases.span(phrases.time_of(job), table=table),
        phrases.span(job.get("time_limit_s"), table=table),
        phrases.starts_of(job, table=table),
        reason,
    ]
