"""A plan is carried out in one transaction; part of it that fails leaves the rest."""

import pytest

from leptond.core.scheduling.planner import Policy
from leptond.core.scheduling.standby import Prepared
from leptond.store.planning import commit_plan, snapshot
from leptond.store.queue import jobs
from tests.support.queue import SHIM, add, db

__all__ = ["db"]


CONTEXT = commit_plan.ClaimContext(now=2.0, boot=2.0, boot_id="boot")


def decided(db):
    return snapshot.decide(db, now=2.0, boot=2.0, unhealthy={}, cpu_slots=1, policy=Policy())


def test_what_was_decided_is_claimed_except_what_has_changed(db):
    first, second, third = add(db, gpus=1), add(db, gpus=1), add(db)
    plan = decided(db)
    jobs.hold(db, str(second), by="ana", now=2.0)
    claims = commit_plan.carry_out(db, plan, CONTEXT)
    assert {claim.job.id for claim in claims} == {first, third}
    assert all(claim.attempt.shim is None for claim in claims)


@pytest.mark.parametrize("changed", [False, True])
def test_a_prepared_attempt_starts_at_once_if_its_job_is_the_same(db, changed):
    job = jobs.find(db, str(add(db, gpus=1)))
    plan = decided(db)
    if changed:
        db.execute("UPDATE jobs SET attempt = 1 WHERE id = ?", (job.id,))
    prepared = {job.id: Prepared(job=job, attempt_id="a" * 32, shim=SHIM)}
    context = commit_plan.ClaimContext(now=2.0, boot=2.0, boot_id="boot", prepared=prepared)
    (claim,) = commit_plan.carry_out(db, plan, context)
    assert (claim.attempt.id == "a" * 32) is not changed
    assert (claim.attempt.state == "running") is not changed


def test_work_that_fails_leaves_the_rest_of_the_transaction(db):
    def work():
        db.execute("UPDATE jobs SET name = 'spoilt'")
        raise RuntimeError("no")

    add(db)
    db.execute("BEGIN")
    db.execute("UPDATE jobs SET priority = 3")
    assert commit_plan.in_savepoint(db, work) is None
    db.execute("COMMIT")
    job = jobs.find(db, "1")
    assert (job.name, job.priority) == ("true", 3)
