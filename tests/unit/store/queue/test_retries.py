"""A job and its retries, as those see them that wait for it."""

import pytest

from leptond.core.jobs.model import DependencyKind
from leptond.store.queue import jobs, retries
from tests.support.queue import add, db, end, lease

__all__ = ["db"]

OK, FAIL, ANY = DependencyKind.OK, DependencyKind.FAIL, DependencyKind.ANY


def run(db, job, exit_code):
    end(db, lease(db, job).attempt.id, exit_code)


def again(db, job):
    stored, copied = jobs.retry(db, str(job), user="ana", now=3.0, max_pending=100)
    assert copied
    return stored.id


@pytest.fixture
def failed(db):
    job = add(db, retries=0)
    run(db, job, 1)
    return job


def test_a_job_that_ended_well_meets_ok_and_any(db):
    job = add(db)
    run(db, job, 0)
    assert [retries.outcome(db, job, kind) for kind in (OK, ANY, FAIL)] == ["met", "met", "failed"]


def test_a_failure_meets_fail_and_any(db, failed):
    assert [retries.outcome(db, failed, kind) for kind in (OK, ANY, FAIL)] == ["failed", "met", "met"]


def test_while_a_retry_has_not_ended_it_is_waited_for(db, failed):
    second = again(db, failed)
    assert retries.outcome(db, failed, OK) == "waiting"
    assert retries.outcome(db, failed, FAIL) == "met", "the first has failed already"
    run(db, second, 0)
    assert retries.outcome(db, failed, OK) == "met"
    assert retries.outcome(db, second, FAIL) == "failed", "the one before it is not asked"


def test_the_retry_of_a_retry_belongs_to_the_first(db, failed):
    second = again(db, failed)
    run(db, second, 1)
    third = again(db, second)
    assert retries.family(db, failed) == [failed, second, third]
    assert retries.outcome(db, failed, OK) == "waiting"
    run(db, third, 1)
    assert retries.outcome(db, failed, OK) == "failed"


def test_a_job_that_is_gone_is_no_one_to_wait_for(db):
    assert retries.outcome(db, 77, OK) == "failed"
    assert retries.family(db, 77) == []


def test_an_end_counts_only_from_retries_before_the_one_that_asks(db, failed):
    second = again(db, failed)
    run(db, second, 0)
    assert retries.met(db, failed, OK, before=second + 1)
    assert not retries.met(db, failed, OK, before=second)
    assert retries.met(db, failed, FAIL, before=second)


def test_of_an_array_the_members_that_were_tried_again_are_looked_at(db):
    first = add(db, array="0-2", retries=0)
    for member, exit_code in ((first, 0), (first + 1, 1), (first + 2, 1)):
        run(db, member, exit_code)
    assert list(retries.outcomes(db, first, OK)) == [], "nothing was tried again"
    second = again(db, first + 1)
    assert list(retries.outcomes(db, first, OK)) == ["waiting"]
    assert (first + 1, first) in retries.members(db, first + 1)
    assert retries.members(db, first) == [(first, first)]
    run(db, second, 0)
    assert list(retries.outcomes(db, first, OK)) == ["met"]
