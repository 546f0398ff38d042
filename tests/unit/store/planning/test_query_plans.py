"""No statement on the way of a submit, a start, an end or a status goes through all jobs, attempts or events,
however long the history is: SQLite is asked how it would carry out what these have executed."""

import re

import pytest

from leptond.config import Settings
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import LIVE, ExitRecord, Identity, JobSpec, State
from leptond.core.outcome.classify import classify
from leptond.core.outcome.evidence import Evidence
from leptond.store.accounting import ledger
from leptond.store.database.transaction import transaction
from leptond.store.planning import snapshot
from leptond.store.queue import (
    attempts,
    compact_arrays,
    dependencies,
    fair_share,
    gpus,
    jobs,
    lists,
    order_keys,
)
from leptond.store.recovery import adoption
from tests.simulation.store import database

LONG = {
    "jobs",
    "attempts",
    "events",
    "runs",
    "past_attempts",
    "attempt_use",
    "metrics",
    "spend",
    "idempotency",
}
SHORT = {
    "jobs_live",  # what runs
    "attempts_one_live",
    "attempts_gpu_live",
    "jobs_by_order",  # windows: they end with the first so many
    "jobs_by_order_cpu",
    "jobs_by_due",
    "jobs_by_due_alone",
    "jobs_by_run",
    "jobs_by_owner",
    "jobs_by_owner_cpu",
    "jobs_urgent",
    "jobs_urgent_cpu",
    "jobs_preemptible",
    "jobs_queue",
    "jobs_oldest",
    "runs_at",  # counted up to a limit
}
"""Indexes that may be gone through."""


def write(db, change, *args, **more):
    ((value, failure),) = transaction(db, [lambda db: change(db, *args, **more)])
    if failure is not None:
        raise failure
    return value


def whole_tables(db, statements):
    """What the statements go through that grows with the history."""
    found = set()
    for statement in statements:
        if not re.match(r"(SELECT|INSERT|UPDATE|DELETE)\b", statement):
            continue
        for row in db.execute(f"EXPLAIN QUERY PLAN {statement}"):
            match = re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?$", row["detail"])
            if match and match[1] in LONG and match[2] not in SHORT:
                found.add((row["detail"], statement[:120]))
    return found


def test_a_table_that_is_gone_through_is_found():
    db = database()
    assert whole_tables(db, ["SELECT * FROM jobs WHERE explanation = 'x'"])
    assert not whole_tables(db, ["SELECT * FROM jobs WHERE id = 1"])


@pytest.mark.parametrize("policy", ["auto", "fifo", "firstfit", "shortest", "easy", "throughput"])
def test_nothing_on_the_way_of_a_job_reads_a_whole_table(policy):
    db = database()
    statements = []
    policy = Settings(queue=Settings().queue.__class__(policy=policy)).policy()
    found = [gpus.Found(uuid="GPU-0", index=0, name="x", memory_bytes=1, simulated=True)]
    clocks = {"now": 10.0, "boot": 10.0}

    def submit(**spec):
        one = admit(JobSpec(argv=["true"], **spec), gpus=1, home="/", defaults=Defaults())
        return write(db, jobs.submit, [one], user="ana", now=1.0, max_pending=10_000)[0][0].id

    db.set_trace_callback(lambda text: statements.append(text) if not text.startswith("--") else None)
    write(db, gpus.sync, found, 1.0)
    first = submit(gpus=1, retries=1)
    submit(gpus=1, preemptible=True, urgent=True, priority=3)
    array = submit(gpus=1, array="0-999%2")
    submit(after=[str(first), f"{array}_*"])
    for exit_code in (1, 0):
        for one in compact_arrays.short(db):
            write(db, compact_arrays.refill, one.array_id, 10, 2.0)
        decided = snapshot.decide(db, unhealthy={}, cpu_slots=2, policy=policy, **clocks)
        write(db, snapshot.remember, decided.plan.carried)
        attempt = f"{exit_code:032x}"
        start = decided.plan.starts[0]
        assert write(db, attempts.claim, start, attempt_id=attempt, boot_id="b", **clocks)
        shim = Identity(boot_id="b", pid=1, start_ticks=1)
        assert write(db, attempts.started, attempt, shim=shim, now=10.0, deadline_at=None)
        write(db, attempts.set_pid, attempt, 5)
        snapshot.decide(db, unhealthy={}, cpu_slots=2, policy=policy, **clocks)
        snapshot.stops(db)
        record = ExitRecord(attempt_id=attempt, boot_id="b", exit_code=exit_code, run_s=1.0, ended_at=11.0)
        verdict = classify(Evidence(exit_code=exit_code, run_s=1.0))
        write(db, attempts.finish, attempt, verdict=verdict, record=record, roll=0.5, boot_id="b", **clocks)
    snapshot.next_wake(db, **clocks)
    ledger.newest_idle_cause(db)
    ledger.newest_release(db)
    # a start of the daemon
    write(db, snapshot.new_boot, "other", **clocks)
    attempts.live(db)
    adoption.unidentified(db)
    adoption.unfinished(db, [1, 2, 3])
    write(db, order_keys.adopt, policy)
    write(db, fair_share.configure, 1000.0, now=10.0)
    # a status, a show, a cancel
    jobs.counts(db)
    lists.held_count(db)
    lists.oldest_wait(db)
    lists.recent_failures(db, 0.0, 5)
    for states in (list(LIVE), [State.PENDING]):
        lists.in_queue_order(db, lists.Filter(states=states), limit=5, cursor=None)
    lists.newest(db, lists.Filter(states=[State.FAILED, State.PENDING]), limit=5, cursor="9")
    dependencies.of(db, jobs.find(db, f"{array}_700").id, array)
    write(db, jobs.cancel, f"{array}_700", by="ana", grace_s=None, reason=None, now=12.0)
    db.set_trace_callback(None)
    assert len(statements) > 100
    assert whole_tables(db, set(statements)) == set()
