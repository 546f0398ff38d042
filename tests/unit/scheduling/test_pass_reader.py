"""What one pass sees, from one snapshot."""

from datetime import UTC, datetime

import pytest

from leptond.config import QueueSettings, Settings
from leptond.core.scheduling.standby import Prepared
from leptond.scheduling.pass_reader import PassReader
from leptond.store.queue import attempts, jobs
from tests.support.queue import SHIM, add, db, end, lease

__all__ = ["db"]


class Clock:
    """A clock that stands."""

    boot_id = "boot"
    now = 100.0

    def wall(self):
        return self.now

    def boot(self):
        return self.now


@pytest.fixture
def look(db):
    """`look()` is the view of a pass."""

    def call(*, ill=None, places=2, prepared_jobs=(), prepared=None):
        reader = PassReader(Clock(), Settings(queue=QueueSettings(cpu_slots=2)), lambda: ill or {}, places)
        return reader.read(db, 1, prepared_jobs, prepared or {})

    return call


def ids(found):
    return [job.id for job in found]


def test_an_empty_queue(look):
    view = look()
    assert (list(view.starting), list(view.wanted), list(view.stops), view.at) == ([], [], [], 100.0)
    assert view.decided.empty
    assert (view.next_wake_s, view.released_at) == (None, None)


def test_what_fits_starts_and_what_runs_has_its_next_ones(db, look):
    first = add(db, gpus=2, time_limit_s=100.0)
    second = add(db, gpus=2, time_limit_s=100.0)
    assert ids(look().starting) == [first]
    lease(db, first, "GPU-0", "GPU-1")
    view = look()
    assert (ids(view.starting), ids(view.wanted)) == ([], [second])
    assert set(view.jobs) == {second}
    assert ids(look(places=0).wanted) == [], "where nothing is prepared, nobody looks"


def test_what_starts_is_not_also_what_comes_next(db, look):
    lease(db, add(db, gpus=1, time_limit_s=100.0), "GPU-0")
    starts, comes = add(db, gpus=1, time_limit_s=100.0), add(db, gpus=1, time_limit_s=100.0)
    view = look()
    assert (ids(view.starting), ids(view.wanted)) == ([starts], [comes])


def test_devices_that_do_not_answer_are_not_given(db, look):
    add(db, gpus=2)
    one = add(db, gpus=1)
    assert ids(look(ill={"GPU-1": "fan"}).starting) == [one]
    assert look(ill={"GPU-1": "fan"}).outlook.unhealthy == {"GPU-1": "fan"}


def test_the_next_begin_time_wakes_it_and_bounds_what_it_foresees(db, look):
    add(db, begin_at=datetime(1970, 1, 1, 0, 2, 30, tzinfo=UTC), now=90.0)
    view = look()
    assert view.next_wake_s == pytest.approx(50.0)
    lease(db, add(db, gpus=2, now=90.0), "GPU-0", "GPU-1")
    waiting = jobs.find(db, str(add(db, gpus=2, now=90.0)))
    prepared = {waiting.id: Prepared(job=waiting, attempt_id="b" * 32, shim=SHIM)}
    attempts.started(db, attempts.live(db)[0].attempt.id, shim=SHIM, now=95.0, deadline_at=None)
    (line,) = look(prepared=prepared).outlook.lines
    assert line.until == pytest.approx(150.0)


def test_a_stop_that_was_asked_for_is_to_be_carried_out(db, look):
    attempt = lease(db, add(db, gpus=1), "GPU-0").attempt
    jobs.cancel(db, str(attempt.job_id), by="ana", grace_s=7.0, reason=None, now=99.0)
    assert [(one, grace) for one, _, grace in look().stops] == [(attempt.id, 7.0)]


def test_it_knows_when_gpus_last_came_free(db, look):
    end(db, lease(db, add(db, gpus=1), "GPU-0").attempt.id, 0, now=80.0)
    assert look().released_at == 80.0


def test_prepared_jobs_that_still_wait_are_at_hand(db, look):
    ended, runs = add(db, gpus=1), add(db, gpus=2)
    waiting, held = add(db, gpus=2), add(db, gpus=2, hold=True)
    end(db, lease(db, ended, "GPU-0").attempt.id, 0)
    lease(db, runs, "GPU-0", "GPU-1")
    assert set(look(places=0, prepared_jobs=[ended, runs, waiting, held, 99]).jobs) == {waiting}
