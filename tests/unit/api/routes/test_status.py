"""The status over HTTP: what is counted, and since when."""

from datetime import datetime

from leptond.api.routes.status import midnight


async def test_failures_of_today_are_counted_since_midnight_and_never_ones_apart(world):
    bad = [(await world.post("/v1/jobs", {"argv": ["false"]})).json["id"] for _ in range(7)]
    for job in bad:
        await world.finish(await world.start(job), exit_code=1)
    await world.post("/v1/jobs", {"argv": ["true"], "after": [str(bad[0])]})
    status = (await world.get("/v1/status")).json
    assert (status["failed_today"], len(status["failed_recently"])) == (7, 5)
    assert (status["counts"]["pending"], status["never"]) == (1, 1)


async def test_what_is_next_has_an_array_once_and_comes_before_what_can_never_start(world):
    bad = (await world.post("/v1/jobs", {"argv": ["false"]})).json["id"]
    await world.finish(await world.start(bad), exit_code=1)
    never = [
        (await world.post("/v1/jobs", {"argv": ["true"], "after": [str(bad)]})).json["id"] for _ in range(5)
    ]
    array = (await world.post("/v1/jobs", {"argv": ["true"], "array": "0-19"})).json["array_id"]
    last = (await world.post("/v1/jobs", {"argv": ["true"]})).json["id"]
    found = (await world.get("/v1/status")).json["next"]
    assert [job["id"] for job in found] == [array, last, *never[:3]]
    assert [job.get("members") for job in found[:2]] == [{"pending": 20}, None]


def test_midnight_is_that_of_the_machine():
    now = datetime(2026, 12, 24, 15, 30).astimezone()
    assert midnight(now.timestamp()) == datetime(2026, 12, 24).astimezone().timestamp()
