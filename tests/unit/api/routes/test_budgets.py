"""Budgets over HTTP."""

import pytest


async def test_a_budget_is_set_listed_and_removed(world):
    made = await world.request("PUT", "/v1/budgets/user/ana", {"gpu_hours": 5, "period": "week"})
    assert made.status == 200
    assert (made.json["gpu_hours"], made.json["amount"], made.json["action"]) == (5.0, None, "refuse")
    assert (await world.get("/v1/budgets")).json["items"] == [made.json]
    changed = await world.request("PUT", "/v1/budgets/user/ana", {"amount": 3.5, "action": "warn"})
    assert (changed.json["gpu_hours"], changed.json["amount"], changed.json["period"]) == (None, 3.5, "month")
    assert len((await world.get("/v1/budgets")).json["items"]) == 1
    assert (await world.request("DELETE", "/v1/budgets/user/ana")).status == 204
    assert (await world.get("/v1/budgets")).json["items"] == []
    assert (await world.request("DELETE", "/v1/budgets/user/ana")).status == 404


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("user/ana", {}, 422),
        ("user/ana", {"amount": 1, "gpu_hours": 1}, 422),
        ("user/ana", {"amount": -1}, 422),
        ("user/ana", {"amount": 1, "period": "year"}, 422),
        ("group/ana", {"amount": 1}, 404),
        ("user/" + "x" * 129, {"amount": 1}, 404),
    ],
)
async def test_a_budget_that_cannot_be_is_refused(world, path, body, status):
    assert (await world.request("PUT", f"/v1/budgets/{path}", body)).status == status
    assert (await world.get("/v1/budgets")).json["items"] == []
