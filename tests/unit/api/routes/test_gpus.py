"""The devices over HTTP."""

import pytest


async def test_a_device_shows_its_job_and_what_is_measured(world):
    job = await world.submit(gpus=1)
    await world.start(job, "GPU-1")
    answer = (await world.get("/v1/gpus")).json
    assert (answer["backend"], answer["note"]) == ("simulated", None)
    free, held = answer["items"]
    assert (free["job_id"], held["job_id"]) == (None, job)
    assert (held["utilization"], held["power_w"]) == (0.5, 100.0)


async def test_a_drained_device_is_not_used_until_it_is_put_back(world):
    drained = await world.post("/v1/gpus/1/drain", {"reason": "fan"})
    assert (drained.status, drained.json["drained"], drained.json["drain_reason"]) == (200, True, "fan")
    assert drained.json["schedulable"] is False
    first, second = (await world.get("/v1/gpus")).json["items"]
    assert (first["drained"], second["drained"]) == (False, True)
    back = await world.post("/v1/gpus/1/undrain")
    assert (back.json["drained"], back.json["drain_reason"], back.json["schedulable"]) == (False, None, True)


async def test_an_ill_device_is_not_schedulable_though_it_is_not_drained(world):
    world.devices.ill["GPU-0"] = "fell off the bus"
    ill, well = (await world.get("/v1/gpus")).json["items"]
    assert (ill["schedulable"], well["schedulable"], ill["drained"]) == (False, True, False)


@pytest.mark.parametrize("index", ["2", "x", "-1", "1234567", "%C2%B2"])
async def test_a_device_that_is_not_there(world, index):
    before = await world.everything()
    assert (await world.post(f"/v1/gpus/{index}/drain")).status == 404
    assert await world.everything() == before
