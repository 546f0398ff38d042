"""When jobs start, as a real daemon foretells it."""

from tests.support.daemon import until

REPORTS = "for i in $(seq 1 2000); do echo ::leptond step=$i total=2000; sleep 0.05; done"


def test_a_forecast_follows_what_the_job_reports_and_says_what_is_unknown(daemon):
    everything = len(daemon.get("/v1/gpus").json["items"])
    first = daemon.submit("sh", "-c", REPORTS, gpus=everything, time_limit_s=36000)
    behind = daemon.submit("sleep", "1", gpus=1)
    last = daemon.submit("sleep", "1", gpus=everything)
    left_s = until(lambda: (daemon.job(first).get("progress") or {}).get("left_s"), "its progress")
    assert left_s < 3600
    why = daemon.get(f"/v1/jobs/{behind}/why").json
    assert why["starts_at"] is not None
    listed = {job["id"]: job for job in daemon.get("/v1/jobs?order=queue").json["items"]}
    assert listed[behind]["starts_at"] < listed[first]["deadline_at"], "by its report, not by its limit"
    # behind a job of which nothing is known
    assert listed[last]["starts_at"] is None
    daemon.post(f"/v1/jobs/{first}/cancel", {"grace_s": 0})
    daemon.finished(first)
    daemon.finished(behind)
    holds = daemon.submit("sleep", "60", gpus=everything)
    daemon.reached(holds, "running")
    waits = daemon.submit("sleep", "2", gpus=1)
    why = daemon.get(f"/v1/jobs/{waits}/why").json
    assert (why["starts_at"], why["starts_unknown"]) == (
        None,
        f"job {holds} has no time limit and no history, so nobody can tell when it ends",
    )
    asked = daemon.post("/v1/queue/estimate", {"argv": ["sleep", "3"], "gpus": 1}).json
    assert f"job {holds} has no time limit" in asked["sentence"]
    daemon.post(f"/v1/gpus/{everything - 1}/drain", {"reason": "fan"})
    asked = daemon.post("/v1/queue/estimate", {"argv": ["true"], "gpus": everything}).json
    assert asked["reason"] == "Draining"
    assert f"GPU {everything - 1} (drained: fan)" in asked["sentence"]
    assert "queue" not in asked["sentence"]
    daemon.post(f"/v1/gpus/{everything - 1}/undrain")
    later = daemon.submit("true", begin_at="2099-01-01T00:00:00Z")
    assert " s" not in daemon.job(later)["reason_detail"].replace("begins in ", "")
    for job in (holds, waits, last, later):
        daemon.post(f"/v1/jobs/{job}/cancel", {"grace_s": 0})
