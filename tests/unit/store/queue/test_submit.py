"""Submits: consecutive ids, and answers of older releases."""

import pytest

from leptond.store.queue import jobs, submit
from tests.support.queue import add, db

__all__ = ["db"]


def test_ids_follow_each_other_and_are_not_given_again(db):
    assert [add(db), add(db, array="0-2"), add(db)] == [1, 2, 5]
    assert [jobs.find(db, f"2_{index}").id for index in range(3)] == [2, 3, 4]
    jobs.cancel(db, "5", by="ana", grace_s=None, reason=None, now=1.0)
    jobs.purge(db, "5", by="ana", now=1.0)
    assert (submit.next_id(db), add(db)) == (6, 6)


@pytest.mark.parametrize(
    "text",
    [
        '[{"id":4,"count":3,"array_id":4,"name":"x"}]',
        '[{"ids":[4,5,6],"array_id":4,"name":"x"}]',
    ],
)
def test_answers_of_all_releases_are_read(text):
    (stored,) = submit.remembered(text)
    assert (list(stored.ids), stored.array_id, stored.name) == ([4, 5, 6], 4, "x")
