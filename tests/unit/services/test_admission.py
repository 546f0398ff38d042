"""Admission on a real database: completed, checked, and with warnings for the owner."""

import asyncio
import os
from pathlib import Path

import pytest

from leptond.base.errors import Forbidden, Invalid, NotFound, Refused
from leptond.config import QueueSettings, Settings, ShareSettings
from leptond.core.access.caller import Caller
from leptond.core.access.roles import Role
from leptond.core.admission.admission import Defaults
from leptond.core.jobs.model import JobSpec
from leptond.services.admission import Admission, CurrentFacts
from leptond.services.file_look import FileLook
from leptond.store import StoreUnavailable
from leptond.store.queue import fair_share, gpus, intake
from tests.support.queue import store

__all__ = ["store"]

ANA = Caller(user="ana", uid=1000, role=Role.USER)
ROOT = Caller(user="root", uid=0, role=Role.ADMIN)


async def admitted(store, *specs, settings=None, caller=ANA, in_batch=False):
    """The specs as admitted, and the warnings of each."""
    settings = settings or Settings()
    one = Admission(await CurrentFacts(store, settings).get(), settings, caller)
    found = one.admit_all([JobSpec(**{"argv": ["true"], **spec}) for spec in specs], in_batch=in_batch)
    return found, one.warnings(found, await seen(found, [False] * len(found)))


async def seen(found, unsaid):
    """What is there of the files that jobs name."""
    return await FileLook(Path("/usr")).at_submit(
        found, user="ana", path="/usr/bin:/bin", in_batch=False, unsaid=unsaid
    )


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


async def test_what_a_job_does_not_say_of_gpus_is_the_configurations(store):
    settings = Settings(jobs=Defaults(gpus=1))

    one = Admission(await CurrentFacts(store, settings).get(), settings, ANA)
    spec = JobSpec(argv=["true"])
    assert [one.with_default_gpus(spec, unsaid=unsaid).gpus for unsaid in (True, False)] == [1, 0]
    found = one.admit_all([spec, spec, spec], in_batch=True, unsaid=[True, False, True])
    assert [each.spec.gpus for each in found] == [1, 0, 1]
    assert found[0] is found[2]


async def test_a_training_that_forgot_its_gpu_is_warned_of_unless_it_says_that_none_is_meant(store, tmp_path):
    (tmp_path / "train.py").write_text("import os\nfrom torch import nn\n")
    (tmp_path / "clean.py").write_text("import json\n# import torch\n")
    os.mkfifo(tmp_path / "pipe.py")

    async def warned(*argv: str, unsaid: bool = True, **spec) -> list[str]:
        one = Admission(await CurrentFacts(store, Settings()).get(), Settings(), ANA)
        found = one.admit_all([JobSpec(argv=list(argv), cwd=str(tmp_path), **spec)], in_batch=False)
        its = await seen(found, one.may_forget(found, unsaid=[unsaid]))
        return [text for text in one.warnings(found, its)[0] if "--gpus 1" in text]

    assert "it imports torch" in (await warned("/usr/bin/python3", "-u", "train.py"))[0]
    assert "it calls torchrun" in (await warned("/opt/bin/torchrun", "--standalone", "x.py"))[0]
    assert "it calls accelerate launch" in (await warned("accelerate launch x.py", shell=True))[0]
    for quiet in (
        ["python", "clean.py"],
        ["python", "pipe.py"],
        ["python", "gone.py"],
        ["python", "-c", "1"],
    ):
        assert await warned(*quiet) == []
    assert await warned("python", "train.py", gpus=1, unsaid=False) == []
    assert await warned("python", "train.py", unsaid=False) == []


async def test_facts_are_read_again_after_a_change_and_once_for_all_who_wait(store, monkeypatch):
    reads = []
    inner = store.look

    async def look(query, *args, **more):
        reads.append(query)
        return await inner(query, *args, **more)

    monkeypatch.setattr(store, "look", look)
    facts = CurrentFacts(store, Settings())
    first, second = await asyncio.gather(facts.get(), facts.get())
    assert first is second
    (found,), _ = await admitted(store, {})
    reads.clear()
    one = intake.Submit(admitted=[found], user="ana", now=1.0, max_pending=9)
    await store.write_merged(intake.submit_each, one)
    assert await facts.get() is first
    assert reads == []
    await store.write(gpus.set_drained, 0, "fan", "me", 1.0)
    assert (await facts.get()).usable == 1
    limit = fair_share.Limit(kind="user", name="ana", max_gpus=1)
    await store.write(lambda db: fair_share.set_limit(db, limit, by="me", now=1.0))
    assert (await facts.get()).caps.of("user", "ana").max_gpus == 1
    assert len(reads) == 2


async def test_a_read_that_failed_or_was_given_up_is_tried_again(store, monkeypatch):
    facts = CurrentFacts(store, Settings())
    inner = store.look

    async def fails(*args, **more):
        raise StoreUnavailable("busy")

    monkeypatch.setattr(store, "look", fails)
    with pytest.raises(StoreUnavailable):
        await facts.get()
    monkeypatch.setattr(store, "look", inner)
    asked = asyncio.create_task(facts.get())
    await asyncio.sleep(0)
    asked.cancel()
    assert len((await facts.get()).gpus) == 2
