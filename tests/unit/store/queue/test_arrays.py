"""Arrays: their counts, and changes of all members."""

from functools import partial

import pytest

from leptond.base.errors import NotFound
from leptond.core.jobs.model import State
from leptond.store.queue import arrays, compact_arrays
from tests.support.queue import add, db, end, lease

__all__ = ["db"]


def test_members_are_counted_by_state(db):
    array = add(db, array="0-2")
    end(db, lease(db, array).attempt.id, 2)
    lease(db, array + 1)
    found = arrays.find(db, array)
    assert found.counts == {State.FAILED: 1, State.STARTING: 1, State.PENDING: 1}
    assert (found.user, found.first_failed, found.held) == ("ana", f"{array}_0", 0)
    assert not arrays.is_over(db, array)
    with pytest.raises(NotFound):
        arrays.find(db, 99)


def test_compact_members_are_changed_together(db):
    array = add(db, array="0-999")
    compact = sum(one.count for one in compact_arrays.of_array(db, array))
    assert compact > 900
    parts = partial(compact_arrays.of_array, db, array, pending=True)
    how = {"by": "ana", "now": 1.0}
    assert arrays.set_held(db, parts(), held=True, reason="held", **how) == compact
    assert arrays.find(db, array).held == compact
    assert arrays.set_held(db, parts(), held=False, reason=None, **how) == compact
    assert arrays.find(db, array).held == 0
    assert arrays.cancel_parts(db, parts(), why="", **how) == compact
    assert arrays.find(db, array).counts[State.CANCELLED] == compact
