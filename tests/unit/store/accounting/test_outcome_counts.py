"""Outcomes in the order of their events."""

from leptond.store.accounting import outcome_counts
from leptond.store.queue import attempts
from tests.support.queue import SHIM, add, db, end, lease

__all__ = ["db"]


def test_each_move_is_counted_once_with_its_times(db):
    attempt = lease(db, add(db, retries=1), now=4.0).attempt
    attempts.started(db, attempt.id, shim=SHIM, now=5.0, deadline_at=None)
    end(db, attempt.id, 1, now=9.0)
    found, last = outcome_counts.after(db, 0, limit=100)
    assert [(one.to, one.requeued, one.wait_s, one.run_s) for one in found] == [
        ("starting", False, 3.0, None),
        ("running", False, None, None),
        ("pending", True, None, 100.0),
    ]
    assert outcome_counts.after(db, last, limit=100) == ([], last)
    some, on = outcome_counts.after(db, 0, limit=1)
    assert [*some, *outcome_counts.after(db, on, limit=100)[0]] == found
