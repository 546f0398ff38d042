"""The planner's input from a database, and what wakes the scheduler."""

import sqlite3
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import JobSpec
from leptond.core.scheduling.fair_share import Fairness
from leptond.core.scheduling.planner import PlanInput, Policy, plan
from leptond.store.planning import candidates, snapshot
from leptond.store.queue import attempts, gpus, jobs, lists
from tests.support.queue import claim, finish, store, submit
from tests.support.store import empty_database

__all__ = ["store"]


async def test_a_reboot_carries_backoffs_over_to_the_new_clock(store):
    job = await submit(store, retries=3)
    await store.write(snapshot.new_boot, "boot", now=100.0, boot=5000.0)
    attempt = (await claim(store, job, boot=5000.0)).attempt
    await finish(store, attempt.id, 1, boot=5000.0, now=100.0)
    found = await store.read(jobs.find, str(job))
    assert (found.backoff_at, found.backoff_boot) == (105.0, 5005.0)
    assert await store.write(snapshot.new_boot, "next boot", now=102.0, boot=10.0)
    assert (await store.read(jobs.find, str(job))).backoff_boot == 13.0
    assert await store.read(snapshot.next_wake, now=102.0, boot=10.0) == 3.0


async def test_a_backoff_is_not_shortened_by_a_jump_of_the_wall_clock(store):
    job = await submit(store, retries=3)
    attempt = (await claim(store, job)).attempt
    await finish(store, attempt.id, 1, boot=2.0)
    years = 10 * 365 * 86400.0
    view = await store.read(snapshot.plan_input, now=time.time() + years, boot=2.5, unhealthy={}, cpu_slots=1)
    assert [waiting.id for waiting in view.waiting] == []
    view = await store.read(snapshot.plan_input, now=0.0, boot=1000.0, unhealthy={}, cpu_slots=1)
    assert [waiting.id for waiting in view.waiting] == [job]


async def test_a_backoff_is_not_made_longer_by_a_clock_that_was_set_before_a_reboot(store):
    job = await submit(store, gpus=1, retries=2, retry_delay_s=300.0)
    claimed = await claim(store, job, "GPU-0")
    ten_years = 10 * 365 * 86400.0
    await finish(store, claimed.attempt.id, 1, boot=100.0, now=ten_years)
    await store.write(snapshot.new_boot, "boot", now=ten_years, boot=100.0)
    assert await store.write(snapshot.new_boot, "next boot", now=50.0, boot=5.0)
    left = await store.read(snapshot.next_wake, now=50.0, boot=5.0)
    assert 0 < left <= 900


@settings(max_examples=40, deadline=None)
@given(
    wants=st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 1)), max_size=60),
    slots=st.integers(0, 3),
    taken=st.integers(0, 2),
    others=st.booleans(),
)
def test_a_short_window_decides_as_a_long_one(wants, slots, taken, others):
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.deserialize(empty_database())
    db.row_factory = sqlite3.Row
    found = [gpus.Found(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=1, simulated=True) for i in range(4)]
    gpus.sync(db, found, 1.0)
    for i in range(taken):
        gpus.drain(db, f"GPU-{i}", "x", "me", 1.0)
    specs = [JobSpec(argv=["x"], gpus=gpus_wanted, priority=priority) for gpus_wanted, priority in wants]
    admitted = [admit(spec, gpus=4, home="/", defaults=Defaults()) for spec in specs]
    jobs.submit(db, admitted, user="ana", now=1.0, max_pending=1000)
    if others:  # else what fair share makes of all alike is left out
        jobs.submit(db, admitted[::2], user="bo", now=1.0, max_pending=1000)
    db.execute("INSERT INTO shares (user, project, queue, gpu_s, at) VALUES ('ana', '', 'default', 9e5, 1.0)")
    policy = Policy(fairness=Fairness())
    short = snapshot.decide(db, now=2.0, boot=2.0, unhealthy={}, cpu_slots=slots, policy=policy).starts
    long = plan(
        snapshot.plan_input(db, now=2.0, boot=2.0, unhealthy={}, cpu_slots=slots, policy=policy)
    ).starts
    db.close()
    assert list(short) == list(long)


async def test_nothing_the_loop_asks_scans_the_queue(store):
    """Every statement that the scheduler and the queue's list run is asked for its plan."""
    await submit(store)
    statements = []

    def ask(db):
        db.set_trace_callback(lambda sql: statements.append(sql) if sql.startswith("SELECT") else None)
        try:
            snapshot.plan_input(db, now=1.0, boot=1.0, unhealthy={}, cpu_slots=1)
            empty = PlanInput(gpus=(), cpu_slots=1, now=1.0)
            for gpu, cpu in ((0, 9), (9, 0)):
                candidates.find(db, empty, boot=1.0, gpu=gpu, cpu=cpu)
            snapshot.next_wake(db, now=1.0, boot=1.0)
            snapshot.stops(db)
            attempts.live(db)
            lists.in_queue_order(db, lists.Filter(), limit=50, cursor=None)
            lists.newest(db, lists.Filter(), limit=50, cursor=None)
        finally:
            db.set_trace_callback(None)
        return [
            (sql, [row["detail"] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")]) for sql in statements
        ]

    plans = await store.write(ask)
    about_jobs = [(sql, steps) for sql, steps in plans if "FROM jobs" in sql]
    assert len(about_jobs) >= 7
    for sql, steps in about_jobs:
        assert not any("TEMP B-TREE" in step for step in steps), (sql, steps)
        newest = "ORDER BY id DESC" in sql  # along the primary key, which is its order
        assert newest or not any(step == "SCAN jobs" for step in steps), (sql, steps)


def steps_of(look):
    """How many thousands of steps SQLite's machine takes for a query."""

    def counted(db):
        steps = []
        db.set_progress_handler(lambda: steps.append(1), 1000)
        look(db)
        db.set_progress_handler(None, 0)
        return len(steps)

    return counted


async def test_what_has_to_stop_is_found_without_looking_through_the_past(store):
    def a_long_past(db):
        job = db.execute("SELECT * FROM jobs").fetchone()["id"]
        for number in range(1, 5001):
            db.execute(
                "INSERT INTO attempts (id, job_id, number, state, n_gpus, claimed_at, claimed_boot, boot_id,"
                " class) VALUES (?, ?, ?, 'ended', 0, 1, 1, 'boot', 'ok')",
                (f"{number:032x}", job, number),
            )

    await submit(store)
    await store.write(a_long_past)
    other = await submit(store)
    claimed = await claim(store, other)
    await store.write(jobs.cancel, str(other), by="ana", grace_s=3.0, reason=None, now=1.0)
    assert await store.read(snapshot.stops) == [(claimed.attempt.id, "cancel", 3.0)]
    assert await store.read(steps_of(snapshot.stops)) < 2
