"""The statements of the transaction that ends one job and claims for the next: a bound that may only fall."""

import itertools

import pytest

from leptond.core.scheduling.planner import Policy
from leptond.core.scheduling.standby import Prepared
from leptond.store.planning import commit_plan
from leptond.store.queue import attempts, jobs
from tests.support.queue import SHIM, add, db, end

__all__ = ["db"]

CPU, GPU = (7, 29), (13, 34)
"""Statements of the end of a job, and of the claim of the next one, which is prepared: of jobs without GPUs,
and of jobs with two. Most of those of a claim read the queue."""


def statements(db, work):
    """What `work()` returns, and its statements, without those of triggers (for each of which sqlite3 reports
    the statement that fires it once more)."""
    seen = []
    db.set_trace_callback(seen.append)
    try:
        return work(), [text for text, _ in itertools.groupby(seen)]
    finally:
        db.set_trace_callback(None)


def claim(db, now, prepared=()):
    context = commit_plan.ClaimContext(
        now=now,
        boot=now,
        boot_id="boot",
        prepared={
            job: Prepared(job=jobs.find(db, str(job)), attempt_id=f"{job:032x}", shim=SHIM)
            for job in prepared
        },
    )
    return lambda: commit_plan.claim_freed(db, context, unhealthy={}, cpu_slots=1, policy=Policy())


@pytest.mark.parametrize(("gpus", "at_end", "at_claim"), [(0, *CPU), (2, *GPU)])
def test_a_hand_over_takes_no_more_statements_than_it_did(db, gpus, at_end, at_claim):
    first, second, third, *_ = [add(db, gpus=gpus) for _ in range(40)]
    (running,) = claim(db, 1.0, [first])()
    end(db, running.attempt.id, now=2.0)  # this kind of command is known from now on
    (running,) = claim(db, 2.0, [second])()
    decision, ending = statements(db, lambda: end(db, running.attempt.id, now=3.0))
    assert not decision.again
    (started,), claiming = statements(db, claim(db, 3.0, [third]))
    assert (started.job.id, started.attempt.id, started.attempt.state) == (third, f"{third:032x}", "running")
    assert len(ending) <= at_end, "\n".join(ending)
    assert len(claiming) <= at_claim, "\n".join(claiming)


@pytest.mark.parametrize("gpus", [0, 2])
def test_a_claim_returns_what_a_reader_finds(db, gpus):
    job = add(db, gpus=gpus, time_limit_s=60.0, labels={"a": "b"})
    (claimed,) = claim(db, 5.0)()
    assert claimed.job == jobs.find(db, str(job))
    assert claimed.attempt == attempts.get(db, claimed.attempt.id)
    running = attempts.started_at_gate(db, claimed, SHIM, now=6.0)
    assert running.attempt == attempts.get(db, claimed.attempt.id)
    assert running.attempt.deadline_at == jobs.find(db, str(job)).deadline_at == 66.0


def test_an_attempt_that_was_prepared_for_an_older_form_of_the_job_is_not_claimed(db):
    job = add(db)
    work = claim(db, 5.0, [job])
    jobs.edit(db, str(job), {"time_limit_s": 7.0}, by="ana", if_version=None, now=4.0)
    (claimed,) = work()
    assert claimed.attempt.id != f"{job:032x}"
    assert (claimed.attempt.state, claimed.attempt.shim) == ("starting", None)
