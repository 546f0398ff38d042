"""One forecast serves all readers until something changes."""

from __future__ import annotations

import asyncio

import pytest

from leptond.core.scheduling import forecast as core_forecast
from leptond.store.planning import forecast, outlook


@pytest.fixture
def made(monkeypatch):
    """How often each part was made."""
    counts = {"plan": 0, "starts": 0, "estimates": 0}

    def counted(name, inner):
        def call(*args, **more):
            counts[name] += 1
            return inner(*args, **more)

        return call

    monkeypatch.setattr(outlook, "plan", counted("plan", outlook.plan))
    monkeypatch.setattr(forecast, "starts", counted("starts", forecast.starts))
    monkeypatch.setattr(forecast, "estimates", counted("estimates", forecast.estimates))
    monkeypatch.setattr(outlook, "MAX_AGE_S", 3600.0)
    return counts


async def test_readers_share_a_forecast(world, made):
    jobs = [await world.submit(gpus=2, time_limit_s=3600) for _ in range(8)]
    await world.start(jobs[0], "GPU-0", "GPU-1")
    first = (await world.get("/v1/status")).json
    for _ in range(10):
        again = (await world.get("/v1/status")).json
        assert [job["starts_at"] for job in again["next"]] == [job["starts_at"] for job in first["next"]]
        assert (await world.get("/v1/jobs?order=queue")).status == 200
        assert (await world.get("/v1/plan")).status == 200
        assert (await world.get(f"/v1/jobs/{jobs[4]}/why")).json["starts_at"] is not None
    assert made == {"plan": 1, "starts": 1, "estimates": 1}


async def test_two_hundred_readers_of_as_many_jobs_share_one(world, made, monkeypatch):
    passes = []
    plan = core_forecast.plan
    monkeypatch.setattr(core_forecast, "plan", lambda *args, **more: passes.append(1) or plan(*args, **more))
    jobs = [await world.submit(gpus=2, time_limit_s=3600) for _ in range(50)]
    await world.start(jobs[0], "GPU-0", "GPU-1")
    before = world.context.forecasts.made
    paths = [f"/v1/jobs/{job}{end}" for job in jobs[1:] for end in ("/why", "")]
    paths += ["/v1/status", "/v1/jobs?order=queue", "/v1/plan", "/metrics"] * 25
    answers = await asyncio.gather(*(world.get(path) for path in reversed(paths)))
    assert {answer.status for answer in answers} == {200}
    assert world.context.forecasts.made == before + 1
    assert made["starts"] == made["estimates"] == 1
    assert made["plan"] <= 2, "for the first jobs, and for the whole window"
    assert len(passes) <= 4 * 50, "three runs to the end for estimates, and one for lists"


@pytest.mark.parametrize("change", ["submit", "cancel", "edit", "drain", "sick"])
async def test_a_change_is_seen_at_once(world, made, change):
    jobs = [await world.submit(gpus=2) for _ in range(4)]
    before = (await world.get("/v1/status")).json
    assert before["next"][0]["id"] == jobs[0]
    match change:
        case "submit":
            new = await world.submit(gpus=1, priority=9)
            assert (await world.get("/v1/status")).json["next"][0]["id"] == new
        case "cancel":
            await world.post(f"/v1/jobs/{jobs[0]}/cancel")
            assert (await world.get("/v1/status")).json["next"][0]["id"] == jobs[1]
        case "edit":
            await world.request("PATCH", f"/v1/jobs/{jobs[3]}", {"priority": 9})
            assert (await world.get("/v1/plan")).json["items"][0]["id"] == jobs[3]
        case "drain":
            await world.post("/v1/gpus/0/drain")
            assert (await world.get(f"/v1/jobs/{jobs[0]}/why")).json["reason"] == "Draining"
        case "sick":
            world.devices.ill = {"GPU-0": "it does not answer"}
            assert (await world.get(f"/v1/jobs/{jobs[0]}/why")).json["reason"] == "GpuUnhealthy"
    await world.get("/v1/status")
    assert made["plan"] >= 2


async def test_a_job_that_becomes_ready_is_planned_anew(world, made):
    clock = world.context.clock
    soon = await world.submit(gpus=1, begin_at="2099-01-01T00:00:00Z")
    other = await world.submit(gpus=1)
    assert (await world.get(f"/v1/jobs/{other}")).json["reason"] == "Resources"
    assert (await world.get(f"/v1/jobs/{soon}")).json["reason"] == "BeginTime"
    wall = clock.wall
    clock.wall = lambda: wall() + 80 * 365 * 86400.0
    detail = (await world.get(f"/v1/jobs/{soon}")).json["reason_detail"]
    assert detail == "its begin time has come: it is being started"


async def test_a_forecast_grows_old(world, made, monkeypatch):
    monkeypatch.setattr(outlook, "MAX_AGE_S", 0.0)
    await world.submit(gpus=1)
    for _ in range(3):
        await world.get("/v1/status")
    assert made["starts"] == 3


async def test_only_a_few_are_kept(world, made):
    await world.submit(gpus=1)
    for policy in ("auto", "fifo", "firstfit", "shortest", "easy", "throughput") * 2:
        assert (await world.get(f"/v1/plan?policy={policy}")).status == 200
    assert len(world.context.forecasts._kept) <= outlook.KEPT
