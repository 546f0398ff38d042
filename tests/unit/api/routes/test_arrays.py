"""Arrays over HTTP: large ones are one row, and one request changes all of them."""

import pytest

from leptond.store.queue import compact_arrays


@pytest.fixture
async def array(world):
    answer = await world.post("/v1/jobs", {"argv": ["true"], "array": "0-9999%8", "name": "sweep"})
    assert answer.status == 201, answer.data
    assert answer.json["ids"] == list(range(answer.json["id"], answer.json["id"] + 10_000))
    return answer.json["id"]


async def get(world, path):
    answer = await world.get(path)
    assert answer.status == 200, answer.data
    return answer.json


async def test_a_member_without_a_row_answers_like_any_other(world, array):
    member = await get(world, f"/v1/jobs/{array}_9000")
    assert (member["id"], member["ref"], member["state"]) == (array + 9000, f"{array}_9000", "pending")
    assert member["reason"] == "Priority"
    assert (await get(world, f"/v1/jobs/{array + 9000}"))["ref"] == member["ref"]
    assert (await get(world, f"/v1/jobs/{array}_9000/why"))["reason"] == "Priority"
    assert await get(world, f"/v1/jobs/{array}_9000/attempts") == []
    assert (await world.get(f"/v1/jobs/{array}_10000")).status == 404
    log = await world.get(f"/v1/jobs/{array}_9000/log")
    assert log.status == (await world.get(f"/v1/jobs/{array}_0/log")).status
    assert (await get(world, "/v1/status"))["counts"]["pending"] == 10_000


async def test_a_set_is_changed_by_filters_or_by_names(world, array):
    single = (await world.post("/v1/jobs", {"argv": ["true"], "name": "one"})).json["id"]
    would = await world.post("/v1/jobs:cancel", {"name": "sweep", "dry_run": True})
    assert (would.status, would.json["pending"]) == (202, 10_000)
    held = await world.post("/v1/jobs:hold", {"all": True})
    assert (held.status, held.json["pending"], held.json["meanwhile"]) == (200, 10_001, 0)
    assert (await world.post("/v1/jobs:release", {"name": "one"})).json["pending"] == 1
    assert (await get(world, f"/v1/jobs/{array}_9999"))["reason"] == "Held"
    named = await world.post("/v1/jobs:cancel", {"jobs": [f"{array}_7", str(single), "99999", f"{array}_7"]})
    assert named.json["pending"] == 2
    refused = [(one["ref"], one["status"]) for one in named.json["refused"]]
    assert refused == [("99999", 404), (f"{array}_7", 409)]
    for body in (
        {},
        {"jobs": ["1"], "all": True},
        {"user": "ana", "unknown": 1},
        {"all": True, "state": "no"},
    ):
        assert (await world.post("/v1/jobs:cancel", body)).status == 422
    assert (await world.post("/v1/jobs:cancel", {"array": array})).json["pending"] == 9_999
    assert (await world.post("/v1/jobs:purge", {"name": "sweep", "dry_run": True})).json["finished"] == 10_000
    assert (await world.post("/v1/jobs:purge", {"all": True})).json["finished"] == 10_001
    assert sum((await get(world, "/v1/status"))["counts"].values()) == 0


async def test_a_list_has_them_all_by_pages(world, array):
    for query in ("order=queue", "order=newest", f"array={array}", "state=pending&name=sweep"):
        refs, cursor = [], ""
        while cursor is not None:
            page = await get(world, f"/v1/jobs?{query}&limit=1000{cursor and f'&cursor={cursor}'}")
            refs += [job["id"] for job in page["items"]]
            cursor = page["next_cursor"]
        assert sorted(refs) == list(range(array, array + 10_000)), query
        assert refs == sorted(refs, reverse="order=queue" not in query)


async def test_one_request_changes_the_whole_array(world, array):
    held = await world.post(f"/v1/arrays/{array}/hold")
    assert held.status == 200, held.data
    assert held.json["changed"] == 10_000
    assert held.json["array"] == {
        "id": array,
        "name": "sweep",
        "user": held.json["array"]["user"],
        "counts": {"pending": 10_000},
        "held": 10_000,
        "never_start": 0,
        "first_failed": None,
    }
    assert (await get(world, f"/v1/jobs/{array}_7000"))["reason"] == "Held"
    assert (await get(world, "/v1/status"))["held"] == 10_000
    assert (await world.post(f"/v1/arrays/{array}/release")).json["array"]["held"] == 0
    edited = await world.request("PATCH", f"/v1/arrays/{array}", {"priority": 7, "labels": {"a": "b"}})
    assert edited.json["changed"] == 10_000, edited.data
    member = await get(world, f"/v1/jobs/{array}_7000")
    assert (member["priority"], member["labels"]) == (7, {"a": "b"})
    await world.start(array)
    cancelled = await world.post(f"/v1/arrays/{array}/cancel", {"reason": "enough"})
    assert cancelled.status == 202, cancelled.data
    assert cancelled.json["array"]["counts"] == {"cancelled": 9_999, "stopping": 1}
    assert cancelled.json["array"]["first_failed"] == f"{array}_1"
    member = await get(world, f"/v1/jobs/{array}_7000")
    assert (member["state"], member["class"]) == ("cancelled", "cancelled")
    assert member["explanation"].endswith(": enough")
    again = await world.post(f"/v1/jobs/{array}_7000/retry")
    assert (again.status, again.json["id"]) == (201, array + 10_000)
    for path in ("999999", "x", "-1"):
        assert (await world.get(f"/v1/arrays/{path}")).status == 404
        assert (await world.post(f"/v1/arrays/{path}/cancel")).status == 404


async def test_a_bad_edit_of_an_array_changes_nothing(world, array):
    before = await world.everything()
    for patch in ({"queue": "nowhere"}, {"gpus": 99}, {"time_limit_s": -1}):
        answer = await world.request("PATCH", f"/v1/arrays/{array}", patch)
        assert answer.status in (400, 404, 422), answer.data
    assert await world.everything() == before


async def test_events_tell_of_a_large_array_once_and_of_each_member_that_gets_a_row(world, array):
    found = (await get(world, "/v1/events?limit=1000"))["items"]
    assert [one["type"] for one in found].count("job.submitted") == compact_arrays.AT_ONCE
    (told,) = [one for one in found if one["type"] == "array.submitted"]
    assert told["job_id"] == array
    assert told["data"]["jobs"] == 10_000
    assert told["data"]["last_id"] == array + 9_999
    await world.post(f"/v1/jobs/{array}_9000/hold")
    own = (await get(world, f"/v1/events?job={array + 9000}"))["items"]
    assert [one["type"] for one in own] == ["job.submitted", "job.held"]
    assert own[0]["data"]["array_index"] == 9000


async def test_the_same_key_brings_the_same_array(world):
    body = {"argv": ["true"], "array": "0-999"}
    first = await world.post("/v1/jobs", body, Idempotency_Key="k")
    second = await world.post("/v1/jobs", body, Idempotency_Key="k")
    assert (first.status, second.status) == (201, 200)
    assert first.json["ids"] == second.json["ids"]
    assert (await get(world, "/v1/status"))["counts"]["pending"] == 1000
