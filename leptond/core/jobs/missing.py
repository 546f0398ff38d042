"""The error for a job or an array that is not there, or is not for the caller: the same words for both."""

from __future__ import annotations

from leptond.base.errors import NotFound


def no_such_job(ref: str) -> NotFound:
    """Return the error for a job."""
    return NotFound(f"there is no job {ref}", hint="`leptonctl queue` and `leptonctl history` list jobs")


def no_such_array(array_id: int) -> NotFound:
    """Return the error for an array."""
    return NotFound(f"there is no array {array_id}", hint="`leptonctl queue` lists the jobs")
