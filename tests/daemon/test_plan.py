"""The plan and the estimate, over the API and on a real daemon's numbers."""

from datetime import datetime

from tests.support.daemon import Daemon


def at(text):
    return datetime.fromisoformat(text).timestamp()


def test_the_plan_the_reason_and_the_estimate_agree(daemon: Daemon):
    first = daemon.submit("sleep", "600", gpus=4, time_limit_s=700)
    daemon.reached(first, "running")
    second = daemon.submit("sleep", "600", gpus=4, time_limit_s=100)
    third = daemon.submit("sleep", "600", gpus=2, time_limit_s=100)

    plan = daemon.get("/v1/plan").json
    assert plan["policy"] == "auto"
    assert [one["id"] for one in plan["items"]] == [second, third]
    assert plan["items"][0]["gpu_indices"] == [0, 1, 2, 3]
    started = at(daemon.job(first)["started_at"])
    assert abs(at(plan["items"][0]["starts_at"]) - started - 700) < 60
    assert at(plan["items"][0]["earliest_at"]) < at(plan["items"][0]["starts_at"])
    assert plan["not_foretold"] == 0
    assert [one["id"] for one in daemon.get("/v1/plan?policy=fifo").json["items"]] == [second, third]
    assert daemon.get("/v1/plan?policy=magic").status == 422

    why = daemon.get(f"/v1/jobs/{second}/why").json
    assert (why["reason"], why["waits_for"]) == ("Resources", [str(first)])
    assert abs(at(why["starts_at"]) - started - 700) < 60
    assert at(why["earliest_at"]) <= at(why["starts_at"]) <= at(why["latest_at"])
    assert daemon.job(second)["starts_at"] is not None

    told = daemon.post("/v1/queue/estimate", {"argv": ["true"], "gpus": 2, "time_limit_s": 50}).json
    assert "would start in about" in told["sentence"]
    assert at(told["starts_at"]) > started + 600
    assert told["expected_run_s"] == 50
    assert daemon.post("/v1/queue/estimate", {"argv": ["true"]}).json["sentence"] == "it would start at once"
    assert daemon.post("/v1/queue/estimate", {"argv": ["true"], "hold": True}).json["reason"] == "Held"
    assert daemon.post("/v1/queue/estimate", {"argv": ["true"], "gpus": 9}).status == 422
    counts = daemon.get("/v1/status").json["counts"]
    assert (counts["pending"], counts["running"]) == (2, 1), "an estimate stores nothing"
