"""The sequence of events, page by page and as a stream."""

import pytest


async def test_pages_follow_each_other_without_a_gap(world):
    jobs = [await world.submit() for _ in range(3)]
    whole = (await world.get("/v1/events")).json
    assert whole["next_cursor"] is None
    found, since = [], 0
    while True:
        page = (await world.get(f"/v1/events?limit=2&since={since}")).json
        found += page["items"]
        if page["next_cursor"] is None:
            break
        since = page["next_cursor"]
    assert found == whole["items"]
    submits = (await world.get("/v1/events?type=job.submitted,job.ended")).json["items"]
    assert [one["job_id"] for one in submits] == jobs
    of_one = (await world.get(f"/v1/events?job={jobs[1]}")).json["items"]
    assert {one["job_id"] for one in of_one} == {jobs[1]}


async def test_a_stream_has_what_happens_from_now_on(world):
    await world.submit()
    stream = await world.stream("/v1/events")
    kind, _, hello = await stream.next()
    assert kind == "hello"
    job = await world.submit()
    kind, number, event = await stream.next()
    assert (kind, event["job_id"]) == ("job.submitted", job)
    assert int(number) == event["id"] == hello["last_event_id"] + 1
    stream.close()


async def test_a_stream_resumes_behind_the_last_event(world):
    jobs = [await world.submit() for _ in range(2)]
    first = (await world.get("/v1/events?type=job.submitted")).json["items"][0]["id"]
    for path, headers in (
        (f"/v1/events?since={first}&type=job.submitted", {}),
        ("/v1/events?since=0&type=job.submitted", {"Last_Event_ID": str(first)}),
    ):
        stream = await world.stream(path, **headers)
        hello, event = await stream.take(2)
        assert hello[2] == {"last_event_id": first}
        assert event[2]["job_id"] == jobs[1]
        stream.close()


@pytest.mark.parametrize("number", ["x", "-1", "1.5", "9" * 16])
async def test_an_id_that_is_none_is_refused(world, number):
    answer = await world.get("/v1/events", Accept="text/event-stream", Last_Event_ID=number)
    assert answer.status == 400


async def test_a_stream_ends_with_the_daemon(world):
    stream = await world.stream("/v1/events")
    await stream.next()
    world.context.closing.set()
    world.context.commits.wake()
    assert await stream.rest() == []
