"""The files of a command as they were at the submit, and what is said when they are others at a start.
Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

NoteKind = Literal["source-changed", "output-failed", "left-behind", "gpu-not-given"]

MAX_HASHED_BYTES = 1024 * 1024
"""The largest file whose content is compared; of a larger one, size and time are."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner of a job should know of an attempt, whatever became of it."""

    kind: NoteKind
    text: str


class SourceFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a command names. `modified_ns` and `status_ns` are its times of modification and status
    change, in nanoseconds since the epoch; `sha256` is null where it is too large to be read."""

    path: str
    size: int
    modified_ns: int
    status_ns: int = 0
    sha256: str | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is not as it was at the submit. `at`: when it was changed (UTC seconds); None where its
    times do not tell."""

    path: str
    at: float | None = None


_sources = msgspec.json.Decoder(list[SourceFile])


def decode(text: str) -> list[SourceFile]:
    """The files in a column of the queue."""
    return _sources.decode(text) if text != "[]" else []


def encode(found: Sequence[SourceFile]) -> str:
    """The column that holds these files."""
    return msgspec.json.encode(found).decode() if found else "[]"


def looks_same(before: SourceFile, now: SourceFile) -> bool:
    """Return True if a file need not be read to know that it is as it was."""
    return (before.size, before.modified_ns, before.status_ns) == (now.size, now.modified_ns, now.status_ns)


def change_of(
    before: SourceFile, now: SourceFile, *, submitted_at: float, started_at: float
) -> Change | None:
    """The change of a file between a submit and a start, as it is seen after the start; None where there is
    none, or where it came only after the start."""
    if looks_same(before, now):
        return None
    if before.sha256 is not None and before.sha256 == now.sha256:
        return None
    if before.sha256 is None and (before.size, before.modified_ns) == (now.size, now.modified_ns):
        return None
    times = [now.modified_ns / 1e9, now.status_ns / 1e9]
    if max(times) > started_at:
        return None  # it may have been as it was when the command read it
    return Change(path=before.path, at=next((at for at in times if at > submitted_at), None))


def sentence(change: Change, when: str | None) -> str:
    """The change for people; `when` is its time in words.

    >>> sentence(Change(path="/w/train.py", at=1.0), "14:02:00")
    '/w/train.py was changed at 14:02:00, after the submit: this attempt ran the new one'
    """
    at = f" at {when}" if when is not None else ""
    return f"{change.path} was changed{at}, after the submit: this attempt ran the new one"
