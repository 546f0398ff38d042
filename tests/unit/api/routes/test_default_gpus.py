"""How many GPUs a job gets that does not say, by every door."""

from __future__ import annotations

import pytest

from leptond.config import HttpSettings, Settings
from leptond.core.admission.admission import Defaults


@pytest.fixture
def settings() -> Settings:
    return Settings(http=HttpSettings(submits_per_s=1e4), jobs=Defaults(gpus=1))


async def gpus_of(world, job: int) -> int:
    return int((await world.get(f"/v1/jobs/{job}")).json["gpus"])


async def test_what_is_not_said_is_the_configurations_and_what_is_said_stays(world):
    for said, gets in ({}, 1), ({"gpus": 0}, 0), ({"gpus": 2}, 2):
        assert await gpus_of(world, await world.submit(**said)) == gets


async def test_in_a_batch_each_job_says_it_for_itself(world):
    jobs = [{"argv": ["true"]}, {"argv": ["true"], "gpus": 0}, {"gpus": 2, "argv": ["true"]}]
    made = (await world.post("/v1/jobs:batch", {"jobs": jobs})).json["jobs"]
    assert [await gpus_of(world, one["id"]) for one in made] == [1, 0, 2]


async def test_the_trials_of_a_sweep_and_the_members_of_an_array_get_it_too(world):
    sweep = {"job": {"argv": ["true"]}, "grid": {"lr": [1, 2]}}
    ids = (await world.post("/v1/sweeps", sweep)).json["ids"]
    ids += (await world.post("/v1/jobs", {"argv": ["true"], "array": "0-1"})).json["ids"]
    assert [await gpus_of(world, one) for one in ids] == [1, 1, 1, 1]


async def test_an_estimate_is_of_the_same_job(world):
    for uuid in ("GPU-0", "GPU-1"):
        world.devices.ill[uuid] = "broken"
    waits = (await world.post("/v1/queue/estimate", {"argv": ["true"]})).json
    starts = (await world.post("/v1/queue/estimate", {"argv": ["true"], "gpus": 0})).json
    assert waits["starts_at"] is None
    assert starts["starts_at"] is not None


async def test_an_estimate_warns_as_a_submit_does(world, tmp_path):
    (tmp_path / "train.py").write_text("import torch\n")
    body = {"argv": ["/usr/bin/torchrun", "train.py"], "cwd": str(tmp_path / "gone"), "gpus": 0}
    made, found = [(await world.post(path, body)).json for path in ("/v1/jobs", "/v1/queue/estimate")]
    assert made["warnings"] == found["warnings"]
    assert any("is not there now" in text for text in found["warnings"])


async def test_the_line_that_submits_it_again_says_it(world):
    job = await world.submit(gpus=0)
    assert " --gpus 0 " in (await world.get(f"/v1/jobs/{job}")).json["resubmit"]
