"""The planner run forward on the database."""

import pytest

from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import JobSpec
from leptond.core.scheduling.inputs import Policy
from leptond.core.training.progress import ProgressMessage, new_batch
from leptond.store.planning import forecast, snapshot
from leptond.store.queue import attempts, jobs
from leptond.store.training import progress
from tests.support.queue import SHIM, add, db, lease

__all__ = ["db"]

UUIDS = ("GPU-0", "GPU-1")


def inputs(db, now=100.0, window=100):
    found = snapshot.plan_input(
        db, now=now, boot=now, unhealthy={}, cpu_slots=8, policy=Policy(), window=window
    )
    return forecast.with_reports(db, found)


@pytest.fixture
def attempt(db):
    """A job on both GPUs from 50 on, that may run for 1000 s."""
    claimed = lease(db, add(db, gpus=2, time_limit_s=1000.0, now=50.0), *UUIDS, now=50.0)
    attempts.started(db, claimed.attempt.id, shim=SHIM, now=50.0, deadline_at=1050.0)
    return claimed.attempt.id


def test_a_job_starts_when_what_runs_before_it_is_over(db, attempt):
    waiting = add(db, gpus=2, time_limit_s=10.0, now=60.0)
    next_one = add(db, gpus=2, time_limit_s=10.0, now=61.0)
    starts = forecast.starts(inputs(db))
    assert starts[waiting].start_at == pytest.approx(1050.0, abs=1.0)
    assert starts[next_one].start_at == pytest.approx(1060.0, abs=2.0)
    assert sorted(starts[waiting].gpus) == list(UUIDS)


def test_what_a_job_reports_of_itself_counts_more_than_its_limit(db, attempt):
    waiting = add(db, gpus=2, time_limit_s=10.0, now=60.0)
    for at, step in ((60.0, 0), (100.0, 40)):
        one = ProgressMessage(v=1, attempt=attempt, at=at, step=step, total=100, first_at=60.0, first_step=0)
        progress.record(db, [new_batch(one)], now=at)
    seen = inputs(db)
    assert [job.reported_left_s for job in seen.running] == [pytest.approx(60.0)]
    assert forecast.starts(seen)[waiting].start_at == pytest.approx(160.0, abs=1.0)


def test_a_start_that_depends_on_others_is_uncertain(db, attempt):
    waiting = add(db, gpus=2, time_limit_s=10.0, now=60.0)
    eta = forecast.etas(inputs(db))[waiting]
    assert eta.earliest_at < eta.likely.start_at <= eta.latest_at


def test_a_submit_that_is_only_asked_about_is_seen_as_if_it_were_made(db):
    spec = JobSpec(
        argv=["true"], array="0-9%3", gpus=1, priority=7, project="p", time_limit_s=60.0, preemptible=True
    )
    admitted = admit(spec, gpus=2, home="/", defaults=Defaults())
    asked = forecast.would_wait(db, admitted, user="ana", now=100.0, borrow=False, most=4)
    assert db.execute("SELECT count(*) FROM jobs").fetchone()[0] == 0, "nothing is stored"
    jobs.submit(db, [admitted], user="ana", now=100.0, max_pending=100)
    made = inputs(db).waiting
    assert [job.id for job in asked] == [job.id for job in made][:4]
    for one, other in zip(asked, made, strict=False):
        for name in ("priority", "gpus", "since", "user", "project", "queue", "array_id", "array_limit"):
            assert getattr(one, name) == getattr(other, name), name
        assert (one.limit_s, one.preemptible, one.urgent) == (60.0, True, False)
        assert one.order_keys == other.order_keys


def test_a_deep_queue_gets_fewer_plans(db):
    for _ in range(3):
        add(db, gpus=2, time_limit_s=10.0)
    seen = inputs(db)
    assert forecast._plans(3000, seen) == forecast.MAX_PASSES
    assert forecast._plans(300, seen) == 100
    assert forecast._plans(3, seen) == 10, "the next starts are always found"
