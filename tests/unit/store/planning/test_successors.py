"""Successors: chosen, named in advance, claimed."""

import pytest

from leptond.core.scheduling.planner import Policy
from leptond.core.scheduling.standby import Prepared
from leptond.store.planning import commit_plan, snapshot, successors
from leptond.store.queue import attempts, jobs
from tests.support.queue import SHIM, add, db, end, lease

__all__ = ["db"]


CONTEXT = commit_plan.ClaimContext(now=2.0, boot=2.0, boot_id="boot")


@pytest.fixture
def chosen(db):
    """The successor of the first of two running jobs, named in the database."""
    for uuid in ("GPU-0", "GPU-1"):
        attempt = lease(db, add(db, gpus=1), uuid).attempt
        attempts.started(db, attempt.id, shim=SHIM, now=1.0, deadline_at=None)
    waiting = jobs.find(db, str(add(db, gpus=1)))
    machine = snapshot.plan_machine(db, now=2.0, boot=2.0, unhealthy={}, cpu_slots=1, policy=Policy())
    inputs = snapshot.first_waiting(db, machine, boot=2.0)
    prepared = {waiting.id: Prepared(job=waiting, attempt_id="b" * 32, shim=SHIM)}
    found = successors.choose(db, inputs, prepared)
    successors.replace_all(db, found)
    return found


def test_each_running_job_has_the_one_that_would_follow_it(db, chosen):
    assert [[gpu.uuid for gpu in one.gpus] for one in chosen] == [["GPU-0"], ["GPU-1"]]
    (named,) = successors.named(db)
    assert (named.job_id, named.number, named.attempt_id, named.shim) == (3, 1, "b" * 32, SHIM)
    assert set(named.after) == {one.after for one in chosen}


def test_a_successor_takes_the_gpus_of_the_one_before_it(db, chosen):
    with pytest.raises(successors.OutOfStep):
        successors.claim(db, chosen[0], CONTEXT)
    end(db, chosen[0].after)
    claim = successors.claim(db, chosen[0], CONTEXT)
    assert (claim.job.id, claim.attempt.id, claim.attempt.state) == (3, "b" * 32, "running")
    assert [gpu.uuid for gpu in claim.attempt.gpus] == ["GPU-0"]
    assert successors.named(db) == []


def test_a_successor_whose_job_has_changed_is_not_valid(db, chosen):
    job = chosen[0].prepared.job
    assert set(successors.still_valid(chosen, {job.id: job})) == {one.after for one in chosen}
    assert successors.still_valid(chosen, {}) == {}
