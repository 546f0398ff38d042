"""What is over its limits, and what has to stay whatever they say."""

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from leptond.core.retention_limits import UNLIMITED
from leptond.store.database import events
from leptond.store.queue import jobs, retention
from tests.support.queue import add, db, empty_queue, end, lease

__all__ = ["db"]

only = partial(replace, UNLIMITED)


def ended(db, at, *, log_bytes=0, **spec):
    """A job that ended at `at`, and its attempt's id."""
    job = add(db, now=at, **spec)
    attempt = lease(db, job, now=at).attempt.id
    end(db, attempt, 0, now=at)
    db.execute("UPDATE attempts SET log_bytes = ? WHERE id = ?", (log_bytes, attempt))
    return job, attempt


def test_without_limits_nothing_goes(db):
    ended(db, 1.0, log_bytes=1000)
    due = retention.due(db, UNLIMITED, 1e9)
    assert (due.jobs, due.outputs, due.events_to, due.compact) == ([], [], 0, [])


def test_jobs_go_by_their_end_and_not_by_their_submit(db):
    (old, _), (young, _) = ended(db, 10.0), ended(db, 20.0)
    add(db, now=1.0)  # waits since long
    assert retention.due(db, only(job_age_s=50.0), 60.0).jobs == [], "not over it yet"
    assert retention.due(db, only(job_age_s=50.0), 65.0).jobs == [old]
    assert retention.due(db, only(job_age_s=50.0), 75.0).jobs == [old, young]


def test_the_oldest_beyond_a_number_go(db):
    found = [ended(db, at)[0] for at in (30.0, 10.0, 20.0)]
    assert retention.due(db, only(max_jobs=2), 100.0).jobs == [found[1]]
    assert retention.due(db, only(max_jobs=3), 100.0).jobs == []


def test_what_a_job_waits_for_stays_and_the_next_oldest_goes_instead(db):
    first, _ = ended(db, 10.0)
    second, _ = ended(db, 20.0)
    add(db, after=[str(second)], hold=True)
    third, _ = ended(db, 30.0)
    blocked, _ = ended(db, 5.0)
    add(db, after_any=[str(blocked)], hold=True)
    assert retention.due(db, only(max_jobs=2), 100.0).jobs == [first, third]
    assert "depends on it" in retention.needed_now(db, blocked)
    assert retention.needed_now(db, third) is None


def test_an_array_stays_until_its_last_member_has_ended(db):
    first = add(db, array="0-1", now=1.0)
    end(db, lease(db, first).attempt.id, 0, now=5.0)
    assert retention.due(db, only(job_age_s=1.0), 100.0).jobs == []
    end(db, lease(db, first + 1).attempt.id, 0, now=6.0)
    assert retention.due(db, only(job_age_s=1.0), 100.0).jobs == [first, first + 1]


def test_a_retry_that_waits_keeps_the_job_whose_checkpoints_it_uses(db):
    job = add(db, retries=0)
    end(db, lease(db, job).attempt.id, 1, now=5.0)
    again = jobs.retry(db, str(job), user="ana", now=6.0, max_pending=100)[0].id
    assert retention.due(db, only(job_age_s=1.0), 100.0).jobs == []
    assert retention.needed_now(db, job) == f"job {again} goes on from its checkpoints"
    assert retention.roots(db, [job, again]) == {job: job, again: job}
    assert retention.roots_used_only_by(db, [job]) == set()
    assert retention.roots_used_only_by(db, [job, again]) == {job}


def test_outputs_go_oldest_first_until_the_rest_fits(db):
    found = [ended(db, at, log_bytes=100)[1] for at in (10.0, 20.0, 30.0)]
    due = partial(retention.due, db, now=100.0)
    assert [one.attempt_id for one in due(only(log_total_bytes=200)).outputs] == found[:1]
    assert [one.attempt_id for one in due(only(log_total_bytes=150)).outputs] == found[:2]
    assert due(only(log_total_bytes=300)).outputs == []
    assert [one.attempt_id for one in due(only(log_age_s=75.0)).outputs] == found[:2]
    retention.output_gone(db, found[:2])
    assert due(only(log_age_s=75.0)).outputs == []
    assert due(only(log_total_bytes=100)).outputs == []


def test_the_output_of_a_job_that_goes_is_not_listed_apart(db):
    old, _ = ended(db, 10.0, log_bytes=100)
    ended(db, 90.0, log_bytes=100)
    due = retention.due(db, only(job_age_s=50.0, log_age_s=50.0), 100.0)
    assert (due.jobs, due.outputs) == ([old], [])


def test_the_output_of_an_attempt_that_runs_is_never_gone(db):
    attempt = lease(db, add(db)).attempt.id
    retention.output_gone(db, [attempt])
    assert db.execute("SELECT log_removed FROM attempts").fetchone()[0] == 0


@settings(max_examples=30)
@given(st.lists(st.integers(0, 100), max_size=12), st.sets(st.integers(0, 11)), st.integers(0, 100))
def test_the_events_before_the_first_young_one_go(times, missing, cut):
    db = empty_queue()
    db.execute("DROP TRIGGER IF EXISTS events_append_only")
    start = events.last_id(db)
    db.execute("DELETE FROM events")
    ids = {}
    for at in sorted(times):
        events.append(db, at, "job.submitted", job=1)
        ids[events.last_id(db)] = at
    for number in missing:
        db.execute("DELETE FROM events WHERE id = ?", (start + 1 + number,))
        ids.pop(start + 1 + number, None)
    limit = retention.due(db, only(event_age_s=1.0), cut + 1.0).events_to
    assert {number for number in ids if number <= limit} == {n for n, at in ids.items() if at < cut}
    assert retention.count_events(db, limit) == sum(at < cut for at in ids.values())
    db.close()


def test_forgetting_leaves_what_has_come_to_be_needed(db):
    db.execute("PRAGMA foreign_keys = ON")  # as each connection of a store has it
    (old, _), (needed, _) = ended(db, 10.0), ended(db, 11.0)
    waiting = add(db, hold=True)
    due = retention.due(db, only(job_age_s=1.0), 100.0).jobs
    assert due == [old, needed]
    add(db, after=[str(needed)], hold=True)
    assert retention.forget(db, [*due, waiting, 999], by="ana", now=101.0) == [old]
    assert db.execute("SELECT id FROM attempts WHERE job_id = ?", (old,)).fetchone() is None
    (event,) = [one for one in events.after(db, 0, limit=1000) if one.type == "job.purged"]
    assert (event.job_id, event.at, event.data) == (old, 101.0, {"by": "ana"})
    assert retention.unused_roots(db, [old, needed]) == [old]


def test_compact_members_that_wait_are_not_forgotten(db):
    first = add(db, array="0-9999", now=1.0)
    assert retention.forget_compact(db, first + 9000, first + 9999, by="ana", now=3.0) == 0, "they wait"


def test_events_are_removed_in_slices(db, monkeypatch):
    monkeypatch.setattr(retention, "SLICE", 0.2)
    for at in range(12):
        events.append(db, float(at), "job.submitted", job=1)
    last = events.last_id(db)
    assert retention.forget_events(db, last - 1) == 5
    while retention.forget_events(db, last - 1):
        pass
    assert [one.id for one in events.after(db, 0, limit=100)] == [last]


@pytest.mark.parametrize("most", [1, 2])
def test_one_pass_takes_only_so_many(db, monkeypatch, most):
    monkeypatch.setattr(retention, "MOST", most)
    found = [ended(db, at)[0] for at in (10.0, 20.0, 30.0)]
    assert retention.due(db, only(job_age_s=1.0), 100.0).jobs == found[:most]
