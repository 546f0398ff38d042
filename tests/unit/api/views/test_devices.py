"""The devices with the jobs that hold them."""

import pytest

from leptond.api.views.devices import show_all
from leptond.gpus.base import Process, Sample
from leptond.store.queue import attempts, gpus
from tests.support.access import EVERYTHING
from tests.support.queue import SHIM, add, db, end, lease, two_gpus

__all__ = ["db"]


@pytest.fixture
def held(db):
    """A job on GPU-1 whose command is process 4242, and its attempt."""
    attempt = lease(db, add(db, gpus=1), "GPU-1").attempt
    attempts.started(db, attempt.id, shim=SHIM, now=2.0, deadline_at=None)
    attempts.set_pid(db, attempt.id, 4242)
    return attempt


def sample(uuid, *pids):
    return Sample(
        uuid=uuid,
        sampled_at=1.0,
        memory_used_bytes=512,
        utilization=0.25,
        temperature_c=40.0,
        power_w=100.0,
        processes=[Process(pid=pid, memory_bytes=256, name="python") for pid in pids],
    )


def test_a_device_has_its_job_and_its_measures(db, held):
    free, used = show_all(db, {"GPU-1": sample("GPU-1")}, {}, EVERYTHING)
    assert (free.job_id, free.utilization, free.schedulable) == (None, None, True)
    assert (used.job_id, used.utilization) == (held.job_id, 0.25)


def test_processes_are_those_of_its_job_or_of_others(db, held):
    _, used = show_all(db, {"GPU-1": sample("GPU-1", 4242, 17)}, {}, EVERYTHING)
    assert [(one.pid, one.job_id) for one in used.processes] == [(4242, held.job_id), (17, None)]


def test_a_device_that_is_gone_is_shown_while_a_job_has_it(db, held):
    gpus.sync(db, [], 3.0)
    (gone,) = show_all(db, {}, {}, EVERYTHING)
    assert (gone.index, gone.present, gone.schedulable) == (1, False, False)
    end(db, held.id, 0, now=4.0)
    assert show_all(db, {}, {}, EVERYTHING) == []
    gpus.sync(db, two_gpus(), 5.0)
    assert len(show_all(db, {}, {}, EVERYTHING)) == 2


def test_a_device_that_is_ill_says_why(db):
    ill, well = show_all(db, {}, {"GPU-0": "fell off the bus"}, EVERYTHING)
    assert (ill.schedulable, well.schedulable) == (False, True)
