"""Copies of output: due when an attempt begins to run, and when it has ended."""

from leptond.store.queue import attempts
from leptond.store.upkeep import output_copies
from tests.support.queue import SHIM, add, db, end, lease

__all__ = ["db"]


def test_only_jobs_with_an_output_are_due_at_their_start_and_end(db):
    for spec in ({"output": "/tmp/x.log"}, {}):
        attempt = lease(db, add(db, **spec)).attempt
        attempts.started(db, attempt.id, shim=SHIM, now=1.0, deadline_at=None)
        end(db, attempt.id)
    found, last, more = output_copies.after(db, 0, limit=100)
    assert [(one.job.id, one.attempt, one.over) for one in found] == [(1, 1, False), (1, 1, True)]
    assert not more
    assert output_copies.after(db, last, limit=100) == ([], last, False)
