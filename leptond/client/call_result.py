"""The outcome of a call: the files that its job left (:mod:`leptond.call`) and the job as it ended, made into
the function's value or an exception."""

from __future__ import annotations

import contextlib
import glob
from concurrent.futures import CancelledError
from typing import Any

from leptond import call, schema
from leptond.core.jobs.model import State


class JobFailed(Exception):
    """The job ended and the function neither returned nor raised: it left, was killed, ran out of time or
    memory. `job` is the job as it ended (None: the daemon no longer knows it), `tail` the end of its
    output."""

    def __init__(self, message: str, job: schema.Job | None = None, tail: str = "") -> None:
        super().__init__(message, job, tail)
        self.job = job
        self.tail = tail

    def __str__(self) -> str:
        return str(self.args[0])


class RemoteError(JobFailed):
    """The function raised an exception that could not travel; the message has its traceback."""


class RemoteTraceback(Exception):
    """The traceback of an exception as it was in the job: the cause of the exception that came back."""

    def __str__(self) -> str:
        return f"in the job:\n\n{self.args[0]}"


def outcome(path: str, job_id: int, job: schema.Job | None) -> Any:
    """Return the value of the call at `path`, whose job `job_id` has ended. Raises what the function raised,
    else CancelledError or JobFailed."""
    if job is not None and job.state is State.CANCELLED:
        raise CancelledError(job.explanation or f"job {job.ref} was cancelled")
    found, damage = _left(path, job_id)
    for file, about in found:
        if about["kind"] == "value" and _counts(about, job):
            return _load(file)
    if job is None:
        raise JobFailed(f"the daemon does not know job {job_id} any more, and it has left no value{damage}")
    errors = [(file, about) for file, about in found if about["kind"] == "error"]
    errors = [(file, about) for file, about in errors if about["attempt"] == job.attempt]
    errors.sort(key=lambda one: float(one[1]["at"]))  # of several ranks, the one that failed first
    if job.state is State.SUCCEEDED:
        why = (
            damage
            or "; the function may have left the process by itself, or its folder is not there any more"
        )
        raise JobFailed(f"job {job.ref} ({job.name}) ended well and left no value{why}", job)
    if errors and job.state is State.FAILED:
        raise _error(*errors[0], job)
    raised = _error(*errors[0], job) if errors else None
    raise JobFailed(_words(job) + damage, job) from raised


def _counts(about: dict[str, Any], job: schema.Job | None) -> bool:
    """Return True if a value is that of the call: of one process always, whatever became of the process
    later; of several ranks when all of them ended well."""
    if about["world"] == 1 or job is None:
        return True
    return job.state is State.SUCCEEDED and about["attempt"] == job.attempt


def _left(path: str, job_id: int) -> tuple[list[tuple[str, dict[str, Any]]], str]:
    """The files that a job left, each with its footer, and a text on those that are damaged."""
    found, damage = [], ""
    first = call.result_path(path, str(job_id))
    others = glob.escape(first.removesuffix(".result")) + ".[0-9]*.result"
    for file in [first, *sorted(glob.glob(others))]:  # noqa: PTH207  # names, as the job wrote them
        try:
            found.append((file, call.look(file)))
        except FileNotFoundError:
            continue
        except (OSError, call.Damaged) as error:
            damage += f"; {error}"
    return found, damage


def _load(file: str) -> Any:
    try:
        return call.load(file)
    except Exception as error:
        error.add_note(f"this is from taking up the value that the job left at {file}")
        raise


def _error(file: str, about: dict[str, Any], job: schema.Job) -> BaseException:
    """The exception that the function raised, with the job's traceback as its cause."""
    text = str(about["text"]).rstrip()
    error = None
    with contextlib.suppress(Exception):
        error = call.load(file) if about["by"] else None
    if not isinstance(error, BaseException):
        return RemoteError(
            f"job {job.ref} raised {about['type']}, which cannot be brought here:\n{text}", job
        )
    error.__cause__ = RemoteTraceback(text)
    error.add_note(f"job {job.ref} ({job.name}), attempt {job.attempt}; class {job.class_}")
    return error


def _words(job: schema.Job) -> str:
    how = f"exit code {job.exit_code}" if job.exit_code is not None else job.signal or "no exit code"
    what = f"job {job.ref} ({job.name}) {job.state.replace('_', ' ')}"
    return f"{what}: {how}; class {job.class_}: {job.explanation or 'no explanation'}"
