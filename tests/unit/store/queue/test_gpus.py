"""Devices: seen, drained, leased."""

import pytest

from leptond.base.errors import NotFound
from leptond.store.queue import gpus
from tests.support.queue import add, db, lease, two_gpus

__all__ = ["db"]


def test_a_device_that_is_gone_keeps_its_lease_and_comes_back(db):
    attempt = lease(db, add(db, gpus=1), "GPU-0").attempt
    gpus.sync(db, two_gpus()[1:], 2.0)
    gone = next(one for one in gpus.known(db) if one.uuid == "GPU-0")
    assert (gone.present, gone.attempt_id) == (False, attempt.id)
    assert [one.uuid for one in gpus.known(db, present_only=True)] == ["GPU-1"]
    gpus.sync(db, two_gpus(), 3.0)
    assert all(one.present for one in gpus.known(db))


def test_a_drained_device_is_not_given_until_it_is_back(db):
    job = add(db, gpus=1)
    assert gpus.set_drained(db, 0, "fan", "ana", 1.0).drain_reason == "fan"
    assert lease(db, job, "GPU-0") is None
    assert not gpus.set_drained(db, 0, None, "ana", 1.0).drained
    assert lease(db, job, "GPU-0") is not None
    with pytest.raises(NotFound):
        gpus.set_drained(db, 7, "fan", "ana", 1.0)
