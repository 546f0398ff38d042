"""Successors: chosen, named in advance, claimed, and kept from being changed meanwhile."""

import re
import sqlite3

import pytest

from leptond.core.jobs.fields import FIELDS
from leptond.core.scheduling.planner import Policy
from leptond.core.scheduling.standby import Prepared
from leptond.store.planning import commit_plan, snapshot, successors
from leptond.store.planning.successors import NamedSuccessor
from leptond.store.queue import attempts, gpus, jobs
from tests.support.queue import SHIM, add, db, end, lease

__all__ = ["db"]


CONTEXT = commit_plan.ClaimContext(now=2.0, boot=2.0, boot_id="boot")
NAMED = NamedSuccessor(job_id=3, number=1, attempt_id="b" * 32, shim=SHIM)


@pytest.fixture
def lines(db):
    """The lines for two running jobs and one that waits, which is named for both slots."""
    for uuid in ("GPU-0", "GPU-1"):
        attempt = lease(db, add(db, gpus=1), uuid).attempt
        attempts.started(db, attempt.id, shim=SHIM, now=1.0, deadline_at=None)
    waiting = jobs.find(db, str(add(db, gpus=1)))
    machine = snapshot.plan_machine(db, now=2.0, boot=2.0, unhealthy={}, cpu_slots=1, policy=Policy())
    inputs = snapshot.first_waiting(db, machine, boot=2.0)
    prepared = {waiting.id: Prepared(job=waiting, attempt_id="b" * 32, shim=SHIM)}
    found = successors.choose(db, inputs, prepared, most=8)
    slots = [["GPU-0"], ["GPU-1"]]
    assert successors.name(db, [(one, slots) for one in found[0].successors], ()) == {"b" * 32}
    return found


def test_running_jobs_that_are_alike_have_one_line(db, lines):
    (line,) = lines
    assert sorted(gpu.uuid for gpus in line.slots.values() for gpu in gpus) == ["GPU-0", "GPU-1"]
    assert [one.prepared.job.id for one in line.successors] == [3]
    assert successors.named(db) == [NAMED]


def test_a_successor_takes_the_gpus_of_the_one_before_it(db, lines):
    with pytest.raises(successors.OutOfStep):
        successors.claim(db, NAMED, ["GPU-0"], CONTEXT)
    end(db, next(iter(lines[0].slots)))
    claim = successors.claim(db, NAMED, ["GPU-0"], CONTEXT)
    assert (claim.job.id, claim.attempt.id, claim.attempt.state) == (3, "b" * 32, "running")
    assert [gpu.uuid for gpu in claim.attempt.gpus] == ["GPU-0"]
    assert successors.named(db) == []


def test_a_successor_whose_job_has_changed_is_not_valid(lines):
    job = lines[0].successors[0].prepared.job
    assert successors.still_valid(lines, {job.id: job}) == lines
    assert successors.still_valid(lines, {}) == []


def test_a_named_job_and_its_gpus_stay_as_they_are_until_it_is_unnamed(db, lines):
    changes = (
        lambda: jobs.hold(db, "3", by="ana", now=3.0),
        lambda: jobs.cancel(db, "3", by="ana", grace_s=None, reason=None, now=3.0),
        lambda: jobs.edit(db, "3", {"gpus": 2}, by="ana", if_version=None, now=3.0),
        lambda: gpus.set_drained(db, 1, "a fan", "ana", 3.0),
        lambda: db.execute("DELETE FROM jobs WHERE id = 3"),
    )
    for change in changes:
        db.execute("SAVEPOINT one")
        with pytest.raises(sqlite3.IntegrityError, match="may start at any moment"):
            change()
        db.execute("ROLLBACK TO one")
    end(db, next(iter(lines[0].slots)))
    assert commit_plan.claim_freed(db, CONTEXT, unhealthy={}, cpu_slots=1, policy=Policy()) == []
    successors.unname(db, ["b" * 32])
    for change in changes:
        db.execute("SAVEPOINT one")
        change()
        db.execute("ROLLBACK TO one")


def test_no_job_overtakes_one_that_is_named(db, lines):
    later = add(db, gpus=1)
    for attempt_id in lines[0].slots:
        end(db, attempt_id)
    assert commit_plan.claim_freed(db, CONTEXT, unhealthy={}, cpu_slots=1, policy=Policy()) == []
    successors.unname(db, ["b" * 32])
    claims = commit_plan.claim_freed(db, CONTEXT, unhealthy={}, cpu_slots=1, policy=Policy())
    assert [claim.job.id for claim in claims] == [3, later]


def test_what_changes_a_launch_is_not_changed_while_the_job_may_start(db):
    (text,) = db.execute("SELECT sql FROM sqlite_master WHERE name = 'jobs_given_stay'").fetchone()
    guarded = set(re.findall(r"\bNEW\.(\w+)", text))
    wanted = {one.name for one in FIELDS if one.launch and one.column and one.editable is not None}
    assert wanted <= guarded
    assert guarded == set(re.findall(r"\bOLD\.(\w+)", text.partition("IS NOT (")[2]))
