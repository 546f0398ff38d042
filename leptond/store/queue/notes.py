"""Notes on attempts: what the owner of a job should know of one, whatever became of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from leptond.core.jobs.sources import Note, NoteKind
from leptond.store.database import events, rows

EVENT_OF: dict[NoteKind, str] = {
    "source-changed": "job.source_changed",
    "output-failed": "job.output_failed",
    "left-behind": "job.left_behind",
    "gpu-not-given": "job.gpu_not_given",
}
"""The event that is recorded with a note."""

MOST = 20
"""Notes of one attempt; further ones are events alone."""


def add(db: sqlite3.Connection, job_id: int, number: int, notes: Sequence[Note], *, now: float) -> None:
    """Add notes to an attempt, each with an event; one that it has already changes nothing, nor does one of
    an attempt that is forgotten."""
    row = db.execute("SELECT * FROM attempts WHERE job_id = ? AND number = ?", (job_id, number)).fetchone()
    if row is None:
        return
    attempt = rows.attempt(row)
    fresh = [note for note in notes if note not in attempt.notes]
    if not fresh:
        return
    kept = msgspec.json.encode([*attempt.notes, *fresh][:MOST]).decode()
    db.execute("UPDATE attempts SET notes = ? WHERE id = ?", (kept, attempt.id))
    for note in fresh:
        events.append(db, now, EVENT_OF[note.kind], job=job_id, attempt=number, data={"text": note.text})
