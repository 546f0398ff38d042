"""Attempts: a claim looks and the schema forbids, and a finish counts once."""

import pytest

from leptond.core.jobs.model import ExitRecord, State
from leptond.core.outcome.classify import classify
from leptond.core.outcome.evidence import End, Evidence
from leptond.store import StoreConflict
from leptond.store.queue import attempts, gpus, jobs
from tests.support.queue import SHIM, claim, finish, store, submit

__all__ = ["store"]


async def test_a_gpu_is_never_leased_twice(store):
    one, two = await submit(store, gpus=1), await submit(store, gpus=1)
    first = await claim(store, one, "GPU-0")
    assert await claim(store, two, "GPU-0") is None, "the claim looks"
    second = await claim(store, two, "GPU-1")
    with pytest.raises(StoreConflict):  # and the schema forbids
        await store.write(
            lambda db: db.execute("INSERT INTO leases VALUES ('GPU-0', ?, 1.0, NULL)", (second.attempt.id,))
        )
    assert first is not None


async def test_a_job_never_has_two_live_attempts(store):
    job = await submit(store)
    assert await claim(store, job) is not None
    assert await claim(store, job) is None
    with pytest.raises(StoreConflict):
        await store.write(
            lambda db: db.execute(
                "INSERT INTO attempts (id, job_id, number, state, n_gpus, claimed_at, claimed_boot, boot_id)"
                " VALUES ('x', ?, 2, 'starting', 0, 1, 1, 'boot')",
                (job,),
            )
        )


async def test_a_finish_counts_once(store):
    job = await submit(store, gpus=2, retries=5)
    attempt = (await claim(store, job, "GPU-0", "GPU-1")).attempt
    assert (await finish(store, attempt.id, 1, boot=4.0)).again
    assert await finish(store, attempt.id, 0) is None
    found = await store.read(jobs.find, str(job))
    assert (found.state, found.spent_user, found.gpu_ms) == (State.PENDING, 1, 2 * 3000)
    assert await store.read(lambda db: db.execute("SELECT count(*) FROM leases").fetchone()[0]) == 0


async def test_a_stop_that_came_first_keeps_the_gate_shut(store):
    job = await submit(store)
    attempt = (await claim(store, job)).attempt
    await store.write(jobs.cancel, str(job), by="ana", grace_s=None, reason=None, now=1.0)
    assert await store.write(attempts.started, attempt.id, shim=SHIM, now=1.0, deadline_at=None) is False


async def test_a_plan_that_is_out_of_date_claims_nothing(store):
    job = await submit(store, gpus=1)
    for change in (
        lambda db: db.execute("UPDATE jobs SET held = 1"),
        lambda db: db.execute("UPDATE jobs SET held = 0, backoff_boot = 99"),
        lambda db: db.execute("UPDATE jobs SET backoff_boot = NULL, gpus = 2"),
        lambda db: db.execute("UPDATE jobs SET gpus = 1") and gpus.drain(db, "GPU-0", "x", "me", 1.0),
    ):
        await store.write(change)
        assert await claim(store, job, "GPU-0") is None
    assert await claim(store, job, "GPU-1") is not None


async def test_a_limit_that_only_the_daemon_saw_pass_is_not_the_end(store):
    job = await submit(store, time_limit_s=5.0)
    one = await claim(store, job)
    assert await store.write(attempts.started, one.attempt.id, shim=SHIM, now=1.0, deadline_at=6.0)
    await store.write(attempts.overran, one.attempt.id, now=6.0)
    shown = await store.read(attempts.get, one.attempt.id)
    assert (shown.state, shown.stop_reason) == ("stopping", "timeout")
    await finish(store, one.attempt.id, 0)
    done = await store.read(attempts.get, one.attempt.id)
    assert (done.class_, done.stop_reason) == ("ok", None)
    assert classify(Evidence.of(shown, End(record=None, shim_lost=True))).cause == "timeout"
    assert classify(Evidence.of(shown, End(record=None, boot_changed=True))).cause == "infra-node"


async def test_a_running_retry_shows_nothing_of_the_end_before(store):
    job = await submit(store, retries=1, retry_delay_s=0.0)
    await finish(store, (await claim(store, job)).attempt.id, 3)
    waits = await store.read(jobs.find, str(job))
    assert (waits.class_, waits.exit_code) == ("user", 3)
    await claim(store, job)
    again = await store.read(jobs.find, str(job))
    assert (again.class_, again.exit_code, again.signal, again.explanation) == (None, None, None, None)
    assert (await store.read(attempts.earlier, job, 2))[0].exit_code == 3


async def test_a_retry_that_is_cancelled_while_it_waits_has_no_exit_code(store):
    job = await submit(store, retries=1, retry_delay_s=60.0)
    await finish(store, (await claim(store, job)).attempt.id, 3)
    await store.write(jobs.cancel, str(job), by="me", grace_s=None, reason=None, now=9.0)
    ended = await store.read(jobs.find, str(job))
    assert (ended.state, ended.class_, ended.exit_code, ended.signal) == (
        "cancelled",
        "cancelled",
        None,
        None,
    )


async def test_no_second_copy_starts_beside_what_cannot_be_killed(store):
    job = await submit(store, gpus=1, retries=3, retry_delay_s=0.0)
    one = await claim(store, job, "GPU-0")
    record = ExitRecord(attempt_id=one.attempt.id, boot_id="boot", exit_code=1, run_s=1, unkillable=1)
    await store.write(
        attempts.finish,
        one.attempt.id,
        verdict=classify(Evidence(exit_code=1, run_s=100, unkillable=1)),
        record=record,
        now=2.0,
        boot=2.0,
        boot_id="boot",
        roll=0.0,
    )
    waiting = await store.read(jobs.find, str(job))
    assert (waiting.state, waiting.held) == (State.PENDING, True)
    assert "unkillable" in waiting.explanation
    first = next(gpu for gpu in await store.read(gpus.known) if gpu.uuid == "GPU-0")
    assert first.drained
    assert "unkillable" in first.drain_reason


async def test_attempts_are_found_by_the_beginning_of_their_id(store):
    ids = [(await claim(store, await submit(store))).attempt.id for _ in range(3)]
    for one in ids:
        assert await store.read(attempts.ids_like, one[:15]) == [one]
        assert await store.read(attempts.ids_like, one) == [one]
    assert await store.read(attempts.ids_like, "g" * 15) == []
