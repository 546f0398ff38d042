"""The cost report over HTTP."""

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest


def at(seconds):
    return quote((datetime.now(UTC) + timedelta(seconds=seconds)).isoformat())


async def test_a_window_ends_now_at_the_latest(world):
    report = (await world.get(f"/v1/usage?until={at(86400)}")).json
    until = datetime.fromisoformat(report["until"])
    assert abs((until - datetime.now(UTC)).total_seconds()) < 60
    assert until - datetime.fromisoformat(report["since"]) == timedelta(days=7)
    assert report["comparison"] is None


@pytest.mark.parametrize(("since", "until"), [(60, 120), (-60, -120), (60, None)])
async def test_an_empty_window_is_refused(world, since, until):
    answer = await world.get(f"/v1/usage?since={at(since)}" + (f"&until={at(until)}" if until else ""))
    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "/since")


async def test_the_lines_of_jobs_have_what_people_call_them(world):
    first = await world.submit(gpus=1, array="0-1")
    for number, gpu in ((first, "GPU-0"), (first + 1, "GPU-1")):
        await world.finish(await world.start(number, gpu))
    groups = (await world.get("/v1/usage?group_by=job")).json["groups"]
    named = {one["ref"] for one in groups if one["ref"] is not None}
    assert named == {f"{first}_0", f"{first}_1"}


async def test_another_policy_is_compared_on_request(world):
    await world.finish(await world.start(await world.submit(gpus=1), "GPU-0"))
    answer = await world.get("/v1/usage?against=firstfit")
    assert (answer.status, answer.json["comparison"] is not None) == (200, True)
    assert (await world.get("/v1/usage?against=none")).status == 422
