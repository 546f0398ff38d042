"""Prepared attempts of a running daemon: a wrong guess leaves no trace, a right one costs no pass."""

import contextlib
import os
import re
import sqlite3
import time

from tests.support.daemon import Daemon, until

PLACES = 8


def prepared(daemon):
    """The ids of the attempts that wait at their gates."""
    standby = daemon.state_dir / "jobs" / ".deck"
    return {path.name for path in standby.iterdir() if (path / "identity.json").exists()}


def test_a_wrong_guess_leaves_no_trace(tmp_path):
    daemon = Daemon(tmp_path / "s", "--simulate-gpus", "1")
    daemon.start()
    try:
        os.mkfifo(tmp_path / "go")
        first = daemon.submit("sh", "-c", f"read x < {tmp_path}/go", gpus=1)
        daemon.reached(first, "running")
        wrong = daemon.submit("touch", str(tmp_path / "wrong"), gpus=1)
        right = daemon.submit("true", gpus=1)
        before = until(lambda: len(prepared(daemon)) == 2 and prepared(daemon))
        assert daemon.post(f"/v1/jobs/{wrong}/cancel").status == 202
        until(lambda: len(prepared(daemon)) == 1)
        assert prepared(daemon) < before
        assert not (daemon.state_dir / "jobs" / str(wrong)).exists()
        assert daemon.job(wrong)["attempts"] == []
        (tmp_path / "go").write_text("x\n")
        assert daemon.finished(right)["state"] == "succeeded"
        until(lambda: not prepared(daemon))
        assert not (tmp_path / "wrong").exists()
    finally:
        daemon.close()


def test_a_job_that_is_changed_while_it_is_prepared_starts_as_it_is_now(tmp_path):
    daemon = Daemon(tmp_path / "s", "--simulate-gpus", "1")
    daemon.start()
    try:
        os.mkfifo(tmp_path / "go")
        first = daemon.submit("sh", "-c", f"read x < {tmp_path}/go", gpus=1)
        daemon.reached(first, "running")
        job = daemon.submit("sh", "-c", "echo $LEPTOND_JOB_NAME $LEPTOND_DEADLINE", gpus=1)
        until(lambda: prepared(daemon))
        assert daemon.request("PATCH", f"/v1/jobs/{job}", {"time_limit_s": 7000}).status == 200
        (tmp_path / "go").write_text("x\n")
        ended = daemon.finished(job)
        deadline = float(daemon.output(job).split()[1])
        assert 6000 < deadline - time.time() < 7100
        assert len(ended["attempts"]) == 1
    finally:
        daemon.close()


def passes(daemon):
    """How many scheduling passes there have been."""
    text = daemon.get("/metrics").data.decode()
    return float(re.search(r"^leptond_scheduler_tick_seconds_count (\S+)$", text, re.MULTILINE)[1])


def test_a_hand_over_that_has_planned_anew_needs_no_scheduling_pass(tmp_path):
    daemon = Daemon(tmp_path / "s", "--simulate-gpus", "1")
    daemon.start()
    try:
        os.mkfifo(tmp_path / "go")
        first = daemon.submit("sh", "-c", f"read x < {tmp_path}/go", gpus=1)
        daemon.reached(first, "running")
        answer = daemon.post("/v1/jobs:batch", {"jobs": [{"argv": ["true"], "gpus": 1}] * 60})
        jobs = [job["id"] for job in answer.json["jobs"]]
        until(lambda: len(prepared(daemon)) == PLACES, "all are prepared")
        before = passes(daemon)
        (tmp_path / "go").write_text("x\n")
        assert daemon.finished(jobs[-1])["state"] == "succeeded"
        assert passes(daemon) - before < 2 * len(jobs), "a few for all that wait, and not more and more"
    finally:
        daemon.close()


def test_what_a_hand_over_makes_runnable_starts_beside_it(tmp_path):
    daemon = Daemon(tmp_path / "s", "--simulate-gpus", "1")
    daemon.start()
    try:
        for name in ("go", "hold"):
            os.mkfifo(tmp_path / name)
        first = daemon.submit("sh", "-c", f"read x < {tmp_path}/go", gpus=1)
        daemon.reached(first, "running")
        following = [
            daemon.submit("sh", "-c", f"read x < {tmp_path}/hold", gpus=1) for _ in range(PLACES + 1)
        ]
        dependent = daemon.submit("true", after=[str(first)])
        until(lambda: len(prepared(daemon)) == PLACES, "all are prepared")
        (tmp_path / "go").write_text("x\n")
        assert daemon.finished(dependent)["state"] == "succeeded"
        assert daemon.job(following[0])["state"] == "running", "its GPU was handed on"
    finally:
        daemon.post(f"/v1/jobs/{following[0]}/cancel")
        daemon.close()


def test_prepared_attempts_name_the_successor_without_another_scheduling_pass(tmp_path):
    daemon = Daemon(tmp_path / "s", "--simulate-gpus", "1")
    daemon.start()

    def named():
        with contextlib.closing(sqlite3.connect(daemon.state_dir / "leptond.db")) as db:
            return db.execute("SELECT job_id FROM successors").fetchall()

    try:
        os.mkfifo(tmp_path / "go")
        first = daemon.submit("sh", "-c", f"read x < {tmp_path}/go", gpus=1)
        daemon.reached(first, "running")
        before = passes(daemon)
        answer = daemon.post("/v1/jobs:batch", {"jobs": [{"argv": ["true"], "gpus": 1}] * PLACES})
        jobs = [job["id"] for job in answer.json["jobs"]]
        until(lambda: len(prepared(daemon)) == PLACES, "all are prepared")
        until(lambda: named() == [(jobs[0],)], "the successor is named")
        assert passes(daemon) - before <= 5, "for the submit, and not for each prepared attempt"
        (tmp_path / "go").write_text("x\n")
        assert daemon.finished(jobs[-1])["state"] == "succeeded"
    finally:
        daemon.close()
