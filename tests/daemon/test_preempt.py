"""Preemption on a real daemon: who can resume makes room, keeps its work, and comes back by itself."""

import contextlib

import pytest

from tests.support.daemon import Daemon

SAVES = (
    'd="$LEPTOND_CHECKPOINT_DIR"; trap \'echo saved > "$d/s"; exit 1\' TERM; '
    'echo "resume=$LEPTOND_RESUME"; [ -e "$d/s" ] && exit 0; while :; do sleep 0.05; done'
)
"""Leaves with 1 after it has saved, as torchrun does; has nothing left to do once it has."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    one = Daemon(
        tmp_path_factory.mktemp("p") / "s",
        env={
            "LEPTOND_GPUS__BACKEND": "simulated",
            "LEPTOND_GPUS__SIMULATE": "1",
            "LEPTOND_PLANNER__CLASS_GPU_S": "0",
            "LEPTOND_PLANNER__MIN_RUN_S": "0",
            "LEPTOND_PLANNER__MIN_RUN_FACTOR": "0",
        },
    )
    one.start()
    with contextlib.closing(one):
        yield one


def test_a_job_makes_room_resumes_and_spends_no_retry(daemon):
    long = daemon.submit("sh", "-c", SAVES, gpus=1, preemptible=True, time_limit_s=3600)
    daemon.printed(long, "resume=0")
    short = daemon.submit("true", gpus=1, time_limit_s=30)
    assert daemon.finished(short)["state"] == "succeeded"
    done = daemon.finished(long)
    assert (done["state"], done["attempt"]) == ("succeeded", 2)
    first, second = done["attempts"]
    assert (first["class"], first["rule"], first["exit_code"]) == ("preempted", "we-preempted", 1)
    assert first["stop_reason"] == "preempt"
    assert first["ended_at"] <= daemon.job(short)["attempts"][0]["started_at"]
    assert second["class"] == "ok"
    assert daemon.output(long, 2) == "resume=1\n"
    assert done["retries_left"] == 0
    metrics = daemon.get("/metrics").data.decode()
    assert "leptond_preemptions_total 1.0" in metrics
    assert 'leptond_job_retries_total{cause="preempted"}' not in metrics


def test_a_job_that_finishes_in_its_grace_has_finished(daemon):
    script = "trap 'exit 0' TERM; echo on; while :; do sleep 0.05; done"
    long = daemon.submit("sh", "-c", script, gpus=1, preemptible=True, time_limit_s=3600)
    daemon.printed(long, "on")
    daemon.finished(daemon.submit("true", gpus=1, time_limit_s=30))
    done = daemon.finished(long)
    assert (done["state"], done["attempt"], done["class"]) == ("succeeded", 1, "ok")


def test_a_cancel_during_a_preemption_has_the_last_word_also_after_a_crash(daemon):
    script = "trap '' TERM; echo on; while :; do sleep 0.05; done"
    long = daemon.submit("sh", "-c", script, gpus=1, preemptible=True, time_limit_s=3600, grace_s=600)
    daemon.printed(long, "on")
    short = daemon.submit("true", gpus=1, time_limit_s=30)
    stopping = daemon.reached(long, "stopping")
    assert stopping["attempts"][0]["stop_reason"] == "preempt"
    daemon.kill()
    daemon.start()
    assert daemon.job(long)["attempts"][0]["stop_reason"] == "preempt"
    assert daemon.job(short)["state"] == "pending"
    assert daemon.post(f"/v1/jobs/{long}/cancel", {"grace_s": 0}).status == 202
    assert daemon.finished(short)["state"] == "succeeded"
    done = daemon.finished(long)
    assert (done["state"], done["attempts"][0]["stop_reason"]) == ("cancelled", "cancel")


def test_who_cannot_resume_is_left_alone(daemon):
    long = daemon.submit("sh", "-c", "echo on; sleep 600", gpus=1, time_limit_s=3600)
    daemon.printed(long, "on")
    short = daemon.submit("true", gpus=1, time_limit_s=30)
    why = daemon.get(f"/v1/jobs/{short}/why").json
    assert why["reason"] == "Resources"
    assert str(long) in why["waits_for"]
    assert daemon.job(long)["state"] == "running"
    daemon.post(f"/v1/jobs/{long}/cancel", {"grace_s": 0})
    assert daemon.finished(short)["state"] == "succeeded"
