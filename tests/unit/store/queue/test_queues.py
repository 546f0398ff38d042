"""Queues: made, changed, removed, with the GPUs that they own."""

import pytest

from leptond.base.errors import Conflict, Invalid, NotFound, WrongState
from leptond.core.admission.queues import Queue
from leptond.store.queue import queues
from tests.support.queue import add, db, lease

__all__ = ["db"]


def test_a_queue_lives_until_it_is_removed(db):
    made = queues.create(db, Queue(name="big", users=["ana"]), ["1"], by="root", now=1.0)
    assert (made.gpus, made.users, made.version) == (["GPU-1"], ["ana"], 1)
    assert [one.name for one in queues.every(db)] == ["big", "default"]
    changed = queues.change(db, "big", {"weight": 2.0}, None, by="root", now=2.0)
    assert (changed.weight, changed.gpus, changed.version) == (2.0, ["GPU-1"], 2)
    queues.remove(db, "big", by="root", now=3.0)
    with pytest.raises(NotFound):
        queues.find(db, "big")


def test_what_a_queue_may_not(db):
    queues.create(db, Queue(name="big"), ["GPU-0"], by="root", now=1.0)
    with pytest.raises(Conflict):
        queues.create(db, Queue(name="big"), None, by="root", now=1.0)
    with pytest.raises(Invalid):
        queues.create(db, Queue(name="other"), ["0"], by="root", now=1.0)
    with pytest.raises(WrongState):
        queues.remove(db, "default", by="root", now=1.0)
    job = add(db, queue="big")
    assert queues.pending(db, "queue", "big") == 1
    with pytest.raises(WrongState, match="1 jobs that wait and 0 that run"):
        queues.remove(db, "big", by="root", now=1.0)
    lease(db, job)
    with pytest.raises(WrongState, match="0 jobs that wait and 1 that run"):
        queues.remove(db, "big", by="root", now=1.0)
