"""A job in one line of the queue."""

from __future__ import annotations

from leptond.cli.text import phrases


def queue_row(job: phrases.Body, *, table: bool) -> list[str | int | float | None]:
    """A job as a row of ``leptonctl queue``."""
    return [
        job["ref"],
        job["name"],
        job["user"],
        phrases.gpus_of(job, table=table),
        job["priority"],
        job["state"],
        phrases.span(phrases.time_of(job), table=table),
        phrases.span(job.get("time_limit_s"), table=table),
        phrases.starts_of(job, table=table),
        phrases.reason_of(job),
    ]
