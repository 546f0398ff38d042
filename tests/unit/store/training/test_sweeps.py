"""Rungs in the store: what was shown is decided once, whenever that is, and what it meets on the way."""

import contextlib
import sqlite3

import pytest

from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import ExitRecord, JobSpec, State, StopReason
from leptond.core.outcome.classify import classify
from leptond.core.outcome.evidence import End, Evidence
from leptond.core.training.progress import ProgressMessage, new_batch
from leptond.store import open_store
from leptond.store.queue import attempts, jobs
from leptond.store.queue.submit import Together
from leptond.store.training import progress, sweeps
from tests.support.queue import SHIM, claim, store, submit

__all__ = ["store"]

PLAN = sweeps.Plan(metric="loss", mode="min", halving=True, eta=2, min_step=10, asked={})


async def begun(store, count, plan=PLAN):
    """A sweep of so many trials, all of them running."""
    params = [{"x": number} for number in range(count)]
    one = admit(JobSpec(argv=["true"]), gpus=2, home="/", defaults=Defaults())
    stored, _ = await store.write(
        jobs.submit,
        [one] * count,
        user="ana",
        now=1.0,
        max_pending=100,
        together=Together(),
        beside=lambda db, made: sweeps.begin(db, plan, params, made, user="ana", now=1.0),
    )
    claims = [await claim(store, one.id) for one in stored]
    for one in claims:
        await store.write(attempts.started, one.attempt.id, shim=SHIM, now=2.0, deadline_at=None)
    return claims


async def told(store, one, step, loss, *, total=1000, **more):
    report = ProgressMessage(
        v=1, attempt=one.attempt.id, at=3.0, step=step, total=total, metrics={"loss": loss}, **more
    )
    return await store.write(progress.record, [new_batch(report)], now=3.0)


async def ended(store, one, *, code=75, stop_reason=None):
    """It leaves with 75, or with `code`, having been told to stop or not; what becomes of it."""
    record = ExitRecord(
        attempt_id=one.attempt.id, boot_id="boot", exit_code=code, run_s=100, stop_reason=stop_reason
    )
    attempt = await store.read(attempts.get, one.attempt.id)
    return await store.write(
        attempts.finish,
        one.attempt.id,
        verdict=classify(Evidence.of(attempt, End(record=record))),
        record=record,
        now=8.0,
        boot=2.0,
        boot_id="boot",
        roll=0.0,
    )


async def shown(store, sweep_id):
    return await store.read(sweeps.trials, sweep_id)


async def test_what_was_shown_before_a_crash_is_decided_as_it_would_have_been(store):
    claims = await begun(store, 4)
    for one, loss in zip(claims, (1.0, 3.0, 0.5, 2.0), strict=True):
        assert await told(store, one, 10, loss)
    # as if the daemon had died here: everything that is needed is on disk
    copy = store.path.with_name("copy.db")
    with (
        contextlib.closing(sqlite3.connect(store.path)) as old,
        contextlib.closing(sqlite3.connect(copy)) as new,
    ):
        old.backup(new)
    async with open_store(copy) as again:
        stopped = await again.write(sweeps.decide, now=9.0)
        assert stopped == [claims[1].job.id, claims[3].job.id]
        assert await again.write(sweeps.decide, now=9.0) == [], "once"
        found = await shown(again, claims[0].job.id)
        assert [one.rungs[0].verdict for one in found] == ["on", "stop", "on", "stop"]
        assert [one.job.state for one in found] == [
            State.RUNNING, State.STOPPING, State.RUNNING, State.STOPPING,
        ]  # fmt: skip
        assert (
            found[3].attempts[-1].stop_note == "stopped early: rung 10, value 2, 3rd of 4; the best 2 go on"
        )
        assert not await told(again, claims[0], 15, 9.0), "between two rungs there is nothing to decide"


async def test_the_first_total_that_is_told_says_where_the_rungs_are(store):
    one, two = await begun(
        store, 2, sweeps.Plan(metric="loss", mode="min", halving=True, eta=3, min_step=None, asked={})
    )
    assert not await told(store, one, 5, 1.0, total=None)
    assert not await told(store, one, 99, 1.0, total=2700)
    assert (await store.read(sweeps.find, one.job.id)).min_step == 100
    assert await told(store, two, 120, 1.0, total=999_999)
    found = await shown(store, one.job.id)
    assert [[rung.rung for rung in each.rungs] for each in found] == [[], [100]]


async def test_the_last_value_counts_and_the_best_is_known(store):
    (one,) = await begun(store, 1)
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, None)):
        await told(store, one, step, loss)
    (trial,) = await shown(store, one.job.id)
    assert (trial.last, trial.last_step, trial.best, trial.best_step) == (None, 4, 1.0, 2)
    assert await store.read(lambda db: sweeps.best(db, sweeps.find(db, one.job.id))) is None


async def test_who_makes_room_when_its_sweep_stops_it_does_not_come_back(store):
    one, two = await begun(store, 2)
    await told(store, one, 10, 1.0)
    await told(store, two, 10, 2.0)
    await store.write(lambda db: jobs.stop(db, two.job, StopReason.PREEMPT, by="job 9", grace_s=5.0, now=4.0))
    assert await store.write(sweeps.decide, now=5.0) == [two.job.id]
    assert not (await ended(store, two, stop_reason="preempt")).again
    job = await store.read(jobs.find, str(two.job.id))
    assert (job.state, job.class_) == (State.CANCELLED, "stopped-early")
    assert job.explanation == "stopped early: rung 10, value 2, 2nd of 2; the best goes on"


async def test_a_cancel_is_not_taken_for_an_early_stop(store):
    one, two = await begun(store, 2)
    await told(store, one, 10, 1.0)
    await told(store, two, 10, 2.0)
    await store.write(jobs.cancel, str(two.job.id), by="ana", grace_s=None, reason=None, now=4.0)
    assert await store.write(sweeps.decide, now=5.0) == []
    found = await shown(store, one.job.id)
    assert (found[1].stopped_early, found[1].attempts[-1].stop_reason) == (False, "cancel")


async def test_who_waits_to_be_tried_again_is_over_at_once(store):
    one, two = await begun(store, 2)
    await told(store, one, 10, 1.0)
    await told(store, two, 10, 2.0)
    assert (await ended(store, two)).again, "it asked to be run again"
    assert await store.write(sweeps.decide, now=5.0) == [two.job.id]
    job = await store.read(jobs.find, str(two.job.id))
    assert (job.state, job.class_) == (State.CANCELLED, "stopped-early")


async def test_a_trial_that_begins_again_is_measured_at_no_rung_twice(store):
    (one,) = await begun(store, 1)
    assert await told(store, one, 10, 1.0)
    assert not await told(store, one, 3, 5.0)
    assert not await told(store, one, 12, 4.0)
    assert await told(store, one, 21, 3.0)
    (trial,) = await shown(store, one.job.id)
    assert [(rung.rung, rung.step, rung.value) for rung in trial.rungs] == [(10, 10, 1.0), (20, 21, 3.0)]


@pytest.mark.parametrize("total", [10, 5])
async def test_the_end_is_no_rung(store, total):
    (one,) = await begun(store, 1)
    assert not await told(store, one, 10, 1.0, total=total)


async def test_jobs_that_are_no_trials_are_left_alone(store):
    (one,) = await begun(
        store, 1, sweeps.Plan(metric="acc", mode="max", halving=True, eta=2, min_step=1, asked={})
    )
    assert not await told(store, one, 10, 1.0)
    (trial,) = await shown(store, one.job.id)
    assert (trial.last, trial.rungs) == (None, [])


async def test_who_waits_for_all_of_a_sweep_counts_what_was_stopped_early_as_done(store):
    one, two = await begun(store, 2)
    sweep = one.job.id
    before = [await submit(store, after=[ref]) for ref in (f"{sweep}_*", f"{sweep}_1")]
    await told(store, one, 10, 1.0)
    await told(store, two, 10, 2.0)
    await store.write(sweeps.decide, now=5.0)
    await ended(store, two, stop_reason="halving")
    await ended(store, one, code=0)
    after = await submit(store, after=[f"{sweep}_*"])
    for job, waits, failed in ((before[0], 0, 0), (before[1], 0, 1), (after, 0, 0)):
        found = await store.read(jobs.find, str(job))
        assert (found.deps_waiting, found.deps_failed) == (waits, failed)
