"""Adoption: what the database knows of the jobs that the disk shows."""

from leptond.core.jobs.model import State
from leptond.store.queue import attempts
from leptond.store.recovery import adoption
from tests.support.queue import SHIM, add, db, end, lease

__all__ = ["db"]


def test_jobs_are_known_also_as_compact_members(db):
    first = add(db)
    end(db, lease(db, first).attempt.id)
    array = add(db, array="0-999")
    ids = [first, array, array + 999, 5000]
    assert adoption.known(db, ids) == {first, array, array + 999}
    assert set(adoption.unfinished(db, ids)) == {array, array + 999}
    assert adoption.unfinished(db, ids)[array + 999] == adoption.Known(state=State.PENDING, attempt=0)
    assert (adoption.terminal(db, first), adoption.terminal(db, array)) == (True, False)


def test_ids_that_may_have_been_given_out_are_not_given_again(db):
    add(db)
    adoption.jump(db, 100)
    assert adoption.highest_id(db) == 100 + adoption.SPARE_IDS
    assert add(db) == 101 + adoption.SPARE_IDS


def test_an_attempt_without_a_stored_shim_is_listed_until_it_is_identified(db):
    attempt = lease(db, add(db)).attempt
    assert adoption.unidentified(db) == [(attempt.id, 1, 1)]
    adoption.identify(db, attempt.id, SHIM)
    assert adoption.unidentified(db) == []
    assert attempts.get(db, attempt.id).shim == SHIM


def test_starts_are_counted_and_end_the_life_of_a_copy(db):
    db.execute("INSERT INTO meta (key, value) VALUES ('snapshot_at', '1')")
    assert (adoption.starts(db), adoption.is_copy(db)) == (0, True)
    adoption.count_start(db, 4)
    assert (adoption.starts(db), adoption.is_copy(db)) == (4, False)
