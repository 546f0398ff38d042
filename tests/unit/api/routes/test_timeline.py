"""Which attempt had which GPU when."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest


def at(seconds):
    return quote((datetime.now(UTC) + timedelta(seconds=seconds)).isoformat())


async def test_a_bar_for_each_attempt(world):
    job = await world.submit(gpus=2)
    attempt = await world.start(job, "GPU-0", "GPU-1")
    await world.submit(gpus=1)  # waits, and has no bar
    bars = (await world.get("/v1/timeline")).json["items"]
    assert [(one["job_id"], one["gpu_indices"], one["ended_at"]) for one in bars] == [(job, [0, 1], None)]
    await world.finish(attempt)
    bars = (await world.get("/v1/timeline")).json["items"]
    assert [(one["attempt"], one["ended_at"] is not None) for one in bars] == [(1, True)]
    await world.start(await world.submit(gpus=1), "GPU-0")
    both = (await world.get("/v1/timeline")).json
    assert (len(both["items"]), both["more"]) == (2, False)
    assert (await world.get(f"/v1/timeline?until={at(-60)}")).json["items"] == []
    assert (await world.get("/v1/timeline?limit=1")).json["more"] is True


@pytest.mark.parametrize(("since", "until"), [(0, -1), (-5, -6), (-91 * 86400, 0)])
async def test_a_span_that_is_none_or_too_long_is_refused(world, since, until):
    answer = await world.get(f"/v1/timeline?since={at(since)}&until={at(until)}")
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/since")


async def test_the_gpus_of_a_job_attempt_by_attempt(world):
    job = await world.submit(gpus=1)
    assert (await world.get(f"/v1/jobs/{job}/gpus")).json == []
    await world.finish(await world.start(job, "GPU-1"))
    (use,) = (await world.get(f"/v1/jobs/{job}/gpus")).json
    assert (use["attempt"], use["uuid"]) == (1, "GPU-1")
    assert (await world.get("/v1/jobs/99/gpus")).status == 404


async def test_the_history_has_every_device(world):
    answer = (await world.get("/v1/gpus/history")).json
    assert [(one["index"], one["minutes"]) for one in answer["items"]] == [(0, []), (1, [])]
