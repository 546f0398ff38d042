"""The errors a user can meet. Each knows its HTTP status, its problem slug and what to do next; HTTP and
the command line print the same words."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import ClassVar, NamedTuple


class Fault(NamedTuple):
    """A fault of a request: where it is (RFC 6901), and what is wrong, as a sentence that begins with the
    field's name."""

    pointer: str
    message: str


class Refused(Exception):
    """A request that leptond will not carry out. Nothing has changed when it is raised."""

    status: ClassVar[int] = 400
    slug: ClassVar[str] = "refused"
    title: ClassVar[str] = "The request was refused"

    def __init__(
        self,
        detail: str,
        *,
        hint: str | None = None,
        pointer: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.faults = [Fault(pointer, detail)] if pointer is not None else []
        self.headers = headers or {}

    @property
    def pointer(self) -> str | None:
        """Where the first fault is; None for a refusal of no field."""
        return self.faults[0].pointer if self.faults else None


class BadRequest(Refused):
    """The bytes are not a request: bad JSON, a bad cursor."""

    slug = "bad-request"
    title = "The request cannot be read"


class Unauthorized(Refused):
    """No token, or one that is not known."""

    status, slug, title = 401, "unauthorized", "A token is needed"


class Forbidden(Refused):
    """The caller is known and may not do this."""

    status, slug, title = 403, "forbidden", "Not permitted"


class NotFound(Refused):
    """There is no such job, GPU or attempt."""

    status, slug, title = 404, "not-found", "Not found"


class OutputRemoved(NotFound):
    """The output of an attempt was there, and is not any more."""

    slug, title = "output-removed", "The output was removed"

    def __init__(self, ref: str, number: int, printed: int) -> None:
        size = f"its {printed} bytes were" if printed else "it was"
        super().__init__(
            f"the output of job {ref}, attempt {number}, is not there any more: {size} removed, by the job "
            "itself, by hand, or by the limits of retention",
            hint=f"leptonctl show {ref} tells how it ended",
        )


class QueueClosed(Refused):
    """The queue takes no new jobs."""

    status, slug, title = 409, "queue-closed", "The queue is closed"


class WrongState(Refused):
    """The job is in a state in which this cannot be done."""

    status, slug, title = 409, "wrong-state", "The job's state does not allow this"


class Conflict(Refused):
    """Another request came first (If-Match, Idempotency-Key)."""

    status, slug, title = 409, "conflict", "The request conflicts with another"


class TooLarge(Refused):
    """The body is over the limit."""

    status, slug, title = 413, "too-large", "The request body is too large"


class HeadTooLarge(Refused):
    """The head of the request has too many headers, or too long ones."""

    status, slug, title = 431, "head-too-large", "The headers of the request are too large"


class WrongMediaType(Refused):
    """A body that is not application/json."""

    status, slug, title = 415, "wrong-media-type", "The body must be application/json"


class BadRange(Refused):
    """The output has none of the bytes that are asked for."""

    status, slug, title = 416, "bad-range", "There is nothing in this range"


class Misdirected(Refused):
    """A Host header that is not one of ours (DNS rebinding)."""

    status, slug, title = 421, "misdirected", "This host name is not served here"


class Invalid(Refused):
    """A field is missing, unknown or out of its range."""

    status, slug, title = 422, "invalid", "The request is not valid"

    @staticmethod
    def of(faults: Sequence[Fault], *, hint: str | None = None, more: bool = False) -> Invalid:
        """Return the refusal of a request with these faults, at least one; `more`: there are others."""
        told = [fault.message for fault in faults[:NAMED]]
        others = len(faults) - len(told)
        if more or others:
            told.append(f"{others}{' or more' if more else ''} further faults")
        refusal = Invalid("; ".join(told), hint=hint)
        refusal.faults = list(faults)
        return refusal

    def within(self, pointer: str) -> Invalid:
        """Return the refusal of a request that has the refused part at `pointer`."""
        self.faults = [
            Fault(pointer + (fault.pointer if fault.pointer != "/" else ""), fault.message)
            for fault in self.faults or [Fault("/", self.detail)]
        ]
        return self


NAMED = 5
"""Most faults that the one sentence of a refusal names."""


class TooManyGpus(Invalid):
    """The job can never start on this machine."""

    slug, title = "too-many-gpus", "The machine has fewer GPUs"

    def __init__(self, asked: int, have: int) -> None:
        super().__init__(
            f"the job asks for {asked} GPUs, this machine has {have}",
            hint="lower --gpus; `leptonctl gpus` lists the devices",
            pointer="/gpus",
        )


class OverBudget(Refused):
    """The job may cost more than is left of a budget."""

    status, slug, title = 403, "over-budget", "The budget does not allow this"


class TooMany(Refused):
    """A queue or a rate is at its limit."""

    status, slug, title = 429, "too-many", "Too many requests or queued jobs"


class Unavailable(Refused):
    """The daemon is starting or stopping."""

    status, slug, title = 503, "unavailable", "The daemon is not ready"


class StorageFull(Refused):
    """The disk has no free space to accept a job durably."""

    status, slug, title = 507, "storage-full", "No room to store the job"


EXIT_IO, EXIT_LATER, EXIT_CONFIG = 74, 75, 78
"""sysexits.h: EX_IOERR (the disk or the system failed), EX_TEMPFAIL (no room, or another program is in the
way), EX_CONFIG (a person has to decide). A service manager tries again after all but the last."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of a disk, or a quota, that is full."""

_FOR_A_PERSON = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EEXIST,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
    }
)


class StartRefused(Exception):
    """The daemon cannot start: `exit_code` is one of EXIT_IO, EXIT_LATER, EXIT_CONFIG."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def start_refused(what: str, error: OSError) -> StartRefused:
    """Return the refusal of a start because of `error`; `what` is the sentence before it. Only what stays as
    it is until a person changes it (rights, a name that is taken) gets EXIT_CONFIG.

    >>> start_refused("x cannot be written", OSError(errno.ENOSPC, "No space left on device")).args[0]
    'x cannot be written: [Errno 28] No space left on device. Make room first.'
    """
    if error.errno in NO_ROOM:
        return StartRefused(f"{what}: {error}. Make room first.", EXIT_LATER)
    return StartRefused(f"{what}: {error}", EXIT_CONFIG if error.errno in _FOR_A_PERSON else EXIT_IO)
