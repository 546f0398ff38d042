"""Lists: pages that join without a gap, in two orders."""

import pytest

from leptond.base.errors import BadRequest
from leptond.core.jobs.model import State
from leptond.store.queue import lists
from tests.support.queue import add, db, lease

__all__ = ["db"]


def pages(db, read, wanted, limit):
    """The ids of all pages."""
    found, cursor = [], None
    while True:
        page, cursor = read(db, wanted, limit=limit, cursor=cursor)
        assert len(page) <= limit
        found += [job.id for job in page]
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_pages_join(db, limit):
    for priority in (0, 5, 0, 5):
        add(db, priority=priority)
    add(db, user="bo", array="0-199")
    lease(db, 3)
    everyone = lists.Filter()
    assert pages(db, lists.newest, lists.Filter(equal={"user": "ana"}), limit) == [4, 3, 2, 1]
    assert pages(db, lists.in_queue_order, lists.Filter(equal={"user": "ana"}), limit) == [3, 2, 4, 1]
    if limit > 1:
        assert pages(db, lists.newest, everyone, limit) == list(range(204, 0, -1))
        assert pages(db, lists.in_queue_order, everyone, limit) == [3, 2, 4, 1, *range(5, 205)]
    assert pages(db, lists.newest, lists.Filter(states=[State.STARTING]), limit) == [3]


@pytest.mark.parametrize("limit", [1, 3])
def test_pages_join_where_the_cursor_holds_no_priority_of_hidden_jobs(db, limit):
    for number in range(8):
        add(db, user="ana" if number % 3 else "bo", priority=(7 * number) % 13)
    add(db, user="bo", array="0-9", priority=11)
    expected = pages(db, lists.in_queue_order, lists.Filter(), 100)
    cursors = []

    def read(db, wanted, *, limit, cursor):
        page, following = lists.in_queue_order(
            db, wanted, limit=limit, cursor=cursor, is_hidden=lambda job: job.user == "bo"
        )
        cursors.append((page[-1], following))
        return page, following

    assert pages(db, read, lists.Filter(), limit) == expected
    of_bo = [following for last, following in cursors if last.user == "bo" and following]
    assert of_bo
    assert all(following.startswith("2.0.") for following in of_bo)


def test_a_page_after_a_hidden_job_that_is_gone_is_refused(db):
    add(db)
    with pytest.raises(BadRequest, match="is gone"):
        lists.in_queue_order(db, lists.Filter(), limit=5, cursor="2.0.77")


def test_a_cursor_that_is_none_is_refused(db):
    with pytest.raises(BadRequest):
        lists.newest(db, lists.Filter(), limit=1, cursor="x")


def test_held_jobs_are_counted_and_jobs_have_names(db):
    add(db, name="train")
    add(db, hold=True)
    assert lists.held_count(db) == 1
    assert lists.names(db, [1, 99])[1].name == "train"
