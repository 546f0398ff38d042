"""A state directory that is copied while its jobs run."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.daemon import PATIENCE_S, Daemon, alive_with_cookie, gone, parent_of

WAITS = "echo begun; while [ ! -e $LEPTOND_CHECKPOINT_DIR/go ]; do sleep 0.05; done; echo finished"


def refused(daemon: Daemon, code: int = 78) -> str:
    daemon.launch()
    assert daemon.process.wait(PATIENCE_S) == code
    daemon.process = None
    return daemon.tail()


def adopt(daemon: Daemon) -> str:
    words = [sys.executable, "-m", "leptond", "recover", "--adopt-copy", "--state-dir", daemon.state_dir]
    return subprocess.run(words, env=daemon.env, capture_output=True, text=True, check=True).stdout


def test_a_copy_takes_nothing_for_lost_and_gives_no_gpu_away_twice(tmp_path):
    first = Daemon(tmp_path / "first", "--simulate-gpus", "1")
    second = Daemon(tmp_path / "second", "--simulate-gpus", "1")
    try:
        first.start()
        job = first.submit("sh", "-c", WAITS, gpus=1)
        first.printed(job, "begun")
        attempt = first.job(job)["attempts"][-1]["id"]
        first.terminate()
        shutil.copytree(first.state_dir, second.state_dir, ignore=shutil.ignore_patterns("*.sock", "*.jobs"))
        assert f"is a copy of {first.state_dir}" in refused(second)
        assert alive_with_cookie({attempt}), "it goes on"
        assert f"job {job}, attempt 1" in adopt(second)
        second.start()
        waiting = second.submit("true", gpus=1)
        assert (second.job(job)["state"], second.job(job)["attempt"]) == ("running", 1)
        assert second.job(waiting)["state"] == "pending", "the GPU is given away once"
        assert "already runs the queue" in refused(first, 75)
        (first.state_dir / "checkpoints" / str(job) / "go").touch()
        ended = second.finished(job)
        assert (ended["state"], ended["attempt"]) == ("succeeded", 1)
        assert second.output(job) == "begun\nfinished\n", "brought here from where it was written"
        assert second.finished(waiting)["state"] == "succeeded"
        assert "process.ended" not in second.tail()
        second.terminate()
        assert f"has gone on in {second.state_dir}" in refused(first)
    finally:
        second.close()


def test_a_stop_reaches_a_job_whose_directory_was_moved_to_another_disk(tmp_path):
    first = Daemon(tmp_path / "first")
    second = Daemon(tmp_path / "second")
    try:
        first.start()
        job = first.submit("sh", "-c", "trap 'exit 3' TERM; echo begun; while :; do sleep 0.05; done")
        first.printed(job, "begun")
        first.terminate()
        shutil.copytree(first.state_dir, second.state_dir, ignore=shutil.ignore_patterns("*.sock", "*.jobs"))
        shutil.rmtree(first.state_dir)
        adopt(second)
        second.start()
        second.post(f"/v1/jobs/{job}/cancel", {"grace_s": 30})
        ended = second.finished(job)
        assert (ended["state"], ended["exit_code"]) == ("cancelled", 3), "by SIGTERM, within its grace"
    finally:
        second.close()


def test_a_job_that_ends_in_a_directory_that_was_renamed_is_booked_once(tmp_path):
    daemon = Daemon(tmp_path / "first")
    moved = Daemon(tmp_path / "second")
    try:
        daemon.start()
        job = daemon.submit("sh", "-c", f"cd {tmp_path}; echo begun; while [ ! -e go ]; do sleep 0.05; done")
        daemon.printed(job, "begun")
        daemon.terminate()
        Path(daemon.state_dir).rename(moved.state_dir)
        moved.start()
        assert (moved.job(job)["state"], moved.job(job)["attempt"]) == ("running", 1)
        (tmp_path / "go").touch()
        ended = moved.finished(job)
        assert (ended["state"], ended["exit_code"], ended["attempt"]) == ("succeeded", 0, 1)
        assert not daemon.state_dir.exists()
    finally:
        moved.close()


def test_every_process_that_a_start_ends_is_logged(tmp_path):
    daemon = Daemon(tmp_path / "state")
    try:
        daemon.start()
        job = daemon.submit("sh", "-c", "trap '' TERM; echo begun; sleep 600", retries=0, requeue=False)
        daemon.printed(job, "begun")
        pid = daemon.pid(job)
        shim = parent_of(pid)
        daemon.kill()
        os.kill(shim, signal.SIGKILL)
        daemon.start()
        daemon.finished(job)
        assert gone(pid)
        lines = [json.loads(line) for line in daemon.log.read_text().splitlines() if "process.ended" in line]
        assert (job, 1, pid) in [(line["job"], line["attempt"], line["pid"]) for line in lines]
    finally:
        daemon.close()
