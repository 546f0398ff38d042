"""Webhooks: positions, the log of deliveries, totals."""

from leptond.store.database import events
from leptond.store.upkeep import webhooks
from tests.support.queue import add, db

__all__ = ["db"]


def test_a_new_hook_begins_with_what_comes_and_never_goes_back(db):
    add(db)
    at = webhooks.position(db, "hook")
    assert at == events.last_id(db) > 0
    webhooks.passed(db, "hook", at + 5)
    webhooks.passed(db, "hook", at + 2)
    assert webhooks.position(db, "hook") == at + 5
    assert webhooks.position_of(db, "other", 7) == 7


def test_deliveries_are_logged_newest_first_and_counted(db, monkeypatch):
    monkeypatch.setattr(webhooks, "KEPT", 2)
    webhooks.position(db, "hook")
    made = [
        webhooks.Delivery(
            hook="hook",
            event_id=n,
            event="job.state",
            at=1.0,
            tries=1,
            result=result,
            status=None,
            error=None,
        )
        for n, result in enumerate(("delivered", "failed", "delivered"), 101)
    ]
    for one in made:
        webhooks.done(db, one)
    assert webhooks.deliveries(db, "hook", 10) == made[:0:-1]
    assert webhooks.totals(db) == {"delivered": 2, "refused": 0, "failed": 1}
    assert webhooks.position(db, "hook") == 103
