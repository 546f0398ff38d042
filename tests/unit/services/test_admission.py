"""Admission on a real database: completed, checked, and with warnings for the owner."""

import pytest

from leptond.base.errors import Forbidden, Invalid, NotFound, Refused
from leptond.config import QueueSettings, Settings, ShareSettings
from leptond.core.admission.caller import Caller
from leptond.core.jobs.model import JobSpec
from leptond.services.admission import Admission
from leptond.store.queue import gpus
from tests.support.queue import store

__all__ = ["store"]

ANA = Caller(user="ana", uid=1000, admin=False)
ROOT = Caller(user="root", uid=0, admin=True)


async def admitted(store, *specs, settings=None, caller=ANA, in_batch=False):
    """The specs as admitted, and the warnings of each."""

    def look(db):
        one = Admission(db, settings or Settings(), caller)
        found = one.admit_all([JobSpec(**{"argv": ["true"], **spec}) for spec in specs], in_batch=in_batch)
        return found, one.warnings(found, 1.0)

    return await store.read(look)


async def test_a_spec_is_completed(store):
    (found,), warnings = await admitted(store, {"gpus": 1})
    assert (found.spec.name, found.spec.gpus) == ("true", 1)
    assert found.spec.cwd  # the home directory
    assert found.count == 1
    assert warnings == [[]]


async def test_urgent_jobs_are_for_admins_and_those_that_the_settings_name(store):
    with pytest.raises(Forbidden, match="ana may not"):
        await admitted(store, {"urgent": True})
    await admitted(store, {"urgent": True}, caller=ROOT)
    await admitted(store, {"urgent": True}, settings=Settings(queue=QueueSettings(urgent_users=["ana"])))


async def test_a_job_that_can_never_start_here_is_refused(store):
    with pytest.raises(Refused):
        await admitted(store, {"gpus": 3})
    with pytest.raises(Refused):
        await admitted(store, {"gpus": 1, "gpu_type": "no such"})


async def test_an_unknown_queue_is_refused(store):
    with pytest.raises((Invalid, NotFound)):
        await admitted(store, {"queue": "nowhere"})


async def test_in_a_batch_the_pointer_names_the_spec(store):
    good, bad = {}, {"after": [5], "array": "0-3%0"}
    with pytest.raises(Invalid) as found:
        await admitted(store, good, bad, in_batch=True)
    assert found.value.pointer.startswith("/jobs/1")
    with pytest.raises(Invalid) as found:
        await admitted(store, bad)
    assert not (found.value.pointer or "").startswith("/jobs")


async def test_a_directory_that_is_missing_is_only_a_warning(store, tmp_path):
    _, (first, second) = await admitted(store, {"cwd": str(tmp_path)}, {"cwd": str(tmp_path / "no")})
    assert first == []
    assert second == [f"the directory {tmp_path / 'no'} is not there now"]


async def test_a_job_that_waits_for_an_undrain_is_warned_of(store):
    await store.write(gpus.set_drained, 0, "fan", "me", 1.0)
    _, (warnings,) = await admitted(store, {"gpus": 2})
    assert "1 are in service" in warnings[0]


async def test_a_job_over_a_cap_is_warned_of(store):
    settings = Settings(shares=ShareSettings(user_max_gpus=1))
    _, (over, within) = await admitted(store, {"gpus": 2}, {"gpus": 1}, settings=settings)
    assert "user ana may hold 1" in over[0]
    assert within == []
