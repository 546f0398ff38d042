"""Waiting for a job's end over HTTP."""

import asyncio

from leptond.api.routes import jobs as api_jobs


async def test_one_who_waits_does_not_make_the_queue_be_planned_at_every_commit(world, monkeypatch):
    views = []
    whole = api_jobs.one_job

    async def counted(context, ref):
        views.append(ref)
        return await whole(context, ref)

    monkeypatch.setattr(api_jobs, "one_job", counted)
    job = await world.submit()
    attempt = await world.start(job)
    waiting = asyncio.create_task(world.get(f"/v1/jobs/{job}?wait_s=30"))
    for _ in range(20):
        await world.submit(hold=True)
    assert (views, waiting.done()) == ([], False)
    await world.finish(attempt)
    assert (await waiting).json["state"] == "succeeded"
    assert views == [str(job)]


async def test_waiting_for_a_job_that_is_not_there_is_refused_at_once(world):
    assert (await world.get("/v1/jobs/47?wait_s=30")).status == 404
