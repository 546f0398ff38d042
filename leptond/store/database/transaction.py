"""One transaction of many changes, each of which can fail alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from leptond.base import failpoints

Outcome = tuple[Any, Exception | None]
"""The value of a change, or the error that has undone it."""

Merge = Callable[[sqlite3.Connection, Sequence[Any]], list[Outcome]]
"""Carries out changes of one kind together: returns the outcome of each item, or raises, and then nothing of
them may stay."""

Step = Callable[[sqlite3.Connection], list[Outcome]]
"""A part of a transaction: one change, or several that are merged; their outcomes in order."""


def in_savepoint(db: sqlite3.Connection, change: Callable[[sqlite3.Connection], Any]) -> Outcome:
    """Carry out a change; an error undoes it alone."""
    db.execute("SAVEPOINT change")
    try:
        outcome: Outcome = (change(db), None)
    except Exception as error:
        if not db.in_transaction:
            raise  # a full disk, an I/O error: SQLite has undone the whole transaction itself
        db.execute("ROLLBACK TO change")
        outcome = (None, error)
    db.execute("RELEASE change")
    return outcome


def merged(db: sqlite3.Connection, merge: Merge, items: Sequence[Any]) -> list[Outcome]:
    """Carry out changes of one kind, each alone if they fail together."""
    found, failure = in_savepoint(db, lambda db: merge(db, items))
    if failure is None:
        return list(found)
    if len(items) == 1:
        return [(None, failure)]
    return [outcome for item in items for outcome in merged(db, merge, [item])]


def transaction(
    db: sqlite3.Connection, changes: Sequence[Callable[[sqlite3.Connection], Any]]
) -> list[Outcome]:
    """Carry out all `changes` in one transaction; commits or raises."""
    return run(db, [alone(change) for change in changes])


def alone(change: Callable[[sqlite3.Connection], Any]) -> Step:
    """Return the step of one change."""
    return lambda db: [in_savepoint(db, change)]


def run(db: sqlite3.Connection, steps: Sequence[Step]) -> list[Outcome]:
    """Carry out all `steps` in one transaction; commits or raises."""
    outcomes: list[Outcome] = []
    db.execute("BEGIN IMMEDIATE")
    try:
        for step in steps:
            outcomes.extend(step(db))
        failpoints.fp("before_commit")
        db.execute("COMMIT")
        failpoints.fp("after_commit")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    return outcomes
