"""Notes on attempts: each once, with an event, and not without end."""

import pytest

from leptond.core.jobs.sources import Note
from leptond.store.database import events
from leptond.store.queue import attempts, notes
from tests.support.queue import add, db, lease

__all__ = ["db"]


@pytest.fixture
def attempt(db):
    return lease(db, add(db)).attempt


def noted(db, attempt):
    return list(attempts.get(db, attempt.id).notes)


def told(db):
    return [event for event in events.after(db, 0, limit=1000) if event.type in notes.EVENT_OF.values()]


def test_a_note_comes_with_the_event_of_its_kind(db, attempt):
    both = [Note(kind="source-changed", text="train.py"), Note(kind="left-behind", text="pid 7")]
    notes.add(db, attempt.job_id, 1, both, now=5.0)
    assert noted(db, attempt) == both
    assert [(event.type, event.job_id, event.attempt, event.at) for event in told(db)] == [
        ("job.source_changed", attempt.job_id, 1, 5.0),
        ("job.left_behind", attempt.job_id, 1, 5.0),
    ]


def test_the_same_note_once_more_changes_nothing(db, attempt):
    one = Note(kind="output-failed", text="the disk is full")
    for _ in range(2):
        notes.add(db, attempt.job_id, 1, [one], now=5.0)
    assert noted(db, attempt) == [one]
    assert len(told(db)) == 1


def test_further_notes_are_events_alone(db, attempt):
    many = [Note(kind="source-changed", text=f"file {i}") for i in range(notes.MOST + 3)]
    for note in many:
        notes.add(db, attempt.job_id, 1, [note], now=5.0)
    assert noted(db, attempt) == many[: notes.MOST], "the first stay"
    assert len(told(db)) == len(many)


def test_a_note_on_an_attempt_that_is_forgotten_is_dropped(db, attempt):
    notes.add(db, attempt.job_id, 2, [Note(kind="left-behind", text="pid 7")], now=5.0)
    assert told(db) == []
    assert noted(db, attempt) == []
