"""Budgets on a real daemon: set while it runs, kept at the door."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import Daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    one = Daemon(
        tmp_path_factory.mktemp("budget") / "state",
        "--simulate-gpus",
        "2",
        env={"LEPTOND_COST__PRICES": '{"Simulated": 2.0}'},
    )
    one.start()
    yield one
    one.close()


def leptonctl(daemon, *words):
    return subprocess.run(
        [sys.executable, "-m", "leptond.cli", "--host", f"unix://{daemon.socket}", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def test_a_budget_refuses_with_figures_and_changes_nothing(daemon):
    set_ = leptonctl(daemon, "budget", "project:small", "--amount", "10", "--per", "day")
    assert set_.returncode == 0, set_.stderr
    job = {"argv": ["sleep", "60"], "gpus": 2, "time_limit_s": 3 * 3600, "project": "small", "hold": True}
    before = daemon.get("/v1/status").json["counts"]
    refused = daemon.post("/v1/jobs", job)
    assert (refused.status, refused.json["type"]) == (403, "/problems/over-budget")
    assert "12.00 USD" in refused.json["detail"]
    assert "10.00 left of 10.00 for this day" in refused.json["detail"]
    assert refused.json["hint"]
    assert daemon.get("/v1/status").json["counts"] == before
    first = daemon.post("/v1/jobs", {**job, "time_limit_s": 2 * 3600})
    assert first.status == 201
    again = daemon.post("/v1/jobs", {**job, "time_limit_s": 3600})
    assert again.status == 403, "what is queued counts: 8 of 10 are taken"
    daemon.post(f"/v1/jobs/{first.json['id']}/cancel")
    assert daemon.post("/v1/jobs", {**job, "time_limit_s": None}).status == 403, "no limit, no worst case"
    assert daemon.post("/v1/jobs", {**job, "gpus": 0, "time_limit_s": None}).status == 201
    leptonctl(daemon, "budget", "project:small", "--remove")
    assert daemon.post("/v1/jobs", job).status == 201


def test_a_budget_may_only_warn(daemon):
    leptonctl(daemon, "budget", "project:warned", "--gpu-hours", "1", "--warn")
    answer = daemon.post(
        "/v1/jobs", {"argv": ["true"], "gpus": 1, "time_limit_s": 7200, "project": "warned", "hold": True}
    )
    assert answer.status == 201
    assert any("budget of project warned" in warning for warning in answer.json["warnings"])
    listed = leptonctl(daemon, "budget").stdout
    assert "project:warned\tmonth\t1.00 GPU-h" in listed
    assert daemon.get("/v1/budgets").json["items"][0]["open_gpu_hours"] == 2.0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["budget", "ana"], 2),
        (["budget", "user:ana"], 2),
        (["budget", "user:ana", "--amount", "1", "--gpu-hours", "2"], 2),
        (["budget", "--amount", "1"], 2),
        (["budget", "user:nobody", "--remove"], 3),
    ],
)
def test_slips_are_usage_errors(daemon, words, code):
    assert leptonctl(daemon, *words).returncode == code


def test_bad_bodies_change_nothing(daemon):
    before = daemon.get("/v1/budgets").json
    for path, body, status in (
        ("/v1/budgets/user/ana", {}, 422),
        ("/v1/budgets/user/ana", {"amount": -1}, 422),
        ("/v1/budgets/user/ana", {"amount": 1, "gpu_hours": 1}, 422),
        ("/v1/budgets/team/ana", {"amount": 1}, 404),
        ("/v1/budgets/user/ana", {"amount": 1, "period": "year"}, 422),
    ):
        assert daemon.request("PUT", path, body).status == status, (path, body)
    assert daemon.get("/v1/budgets").json == before
