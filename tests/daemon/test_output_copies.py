"""Output at paths of the users' own, and trackers that go on with their run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from leptond.core.jobs.output_path import expand
from tests.support.daemon import Daemon, until


def test_the_path_is_a_link_while_the_job_runs_and_a_file_after_all_attempts(daemon: Daemon, tmp_path: Path):
    path = tmp_path / "logs" / "train-%j.out"
    path.parent.mkdir()
    go = tmp_path / "go"
    script = (
        f"echo attempt $LEPTOND_ATTEMPT; while [ ! -e {go} ]; do sleep 0.02; done; [ $LEPTOND_ATTEMPT = 2 ]"
    )
    job = daemon.submit("sh", "-c", script, output=str(path), retries=1, retry_delay_s=0)
    mine = path.with_name(f"train-{job}.out")
    until(mine.is_symlink, "the link is there")
    until(lambda: mine.read_text() == "attempt 1\n", "it can be followed")
    go.touch()
    assert daemon.finished(job)["state"] == "succeeded"
    until(lambda: mine.is_file() and not mine.is_symlink(), "the file has taken its place")
    until(lambda: mine.read_text() == "attempt 1\nattempt 2\n", "all attempts")
    assert [file.name for file in path.parent.iterdir()] == [mine.name], "nothing else is left"


def test_members_of_an_array_have_files_of_their_own_and_a_restart_forgets_none(
    daemon: Daemon, tmp_path: Path
):
    spec = {"argv": ["sh", "-c", "echo $LEPTOND_ARRAY_INDEX"], "array": "3-4", "hold": True}
    answer = daemon.post("/v1/jobs", {**spec, "output": f"{tmp_path}/%x_%A_%3a.txt", "name": "sweep"})
    assert answer.status == 201, answer.data
    array = answer.json["array_id"]
    for job in answer.json["ids"]:
        daemon.post(f"/v1/jobs/{job}/release")
        daemon.finished(job)
    daemon.kill()
    daemon.start()
    for index in (3, 4):
        file = tmp_path / f"sweep_{array}_00{index}.txt"
        until(lambda file=file: file.exists() and not file.is_symlink(), str(file))
        assert file.read_text() == f"{index}\n"


def test_a_place_that_takes_no_file_costs_the_job_nothing(daemon: Daemon, tmp_path: Path):
    job = daemon.submit("echo", "hello", output=f"{tmp_path}/nowhere/x", hold=True)
    (tmp_path / "nowhere").touch()  # its directory cannot be made any more
    daemon.post(f"/v1/jobs/{job}/release")
    assert daemon.finished(job)["state"] == "succeeded"
    until(lambda: "output_copy.failed" in daemon.log.read_text(), "the daemon's log tells")
    assert daemon.output(job) == "hello\n"
    for bad in ("relative", "/x/%q", "/x/"):
        assert daemon.post("/v1/jobs", {"argv": ["true"], "output": bad}).status == 422


def test_nothing_is_overwritten_unseen(daemon: Daemon, tmp_path: Path):
    precious, pipe = tmp_path / "precious", tmp_path / "pipe"
    precious.write_text("precious\n")
    os.mkfifo(pipe)
    for bad, why in (
        (pipe, "a FIFO"),
        (tmp_path, "a directory"),
        (daemon.state_dir / "x%j", "state directory"),
    ):
        answer = daemon.post("/v1/jobs", {"argv": ["true"], "output": str(bad)})
        assert answer.status == 422, answer.data
        assert (why in answer.json["detail"], answer.json["errors"][0]["pointer"]) == (True, "/output")
    answer = daemon.post("/v1/jobs", {"argv": ["true"], "open_mode": "overwrite"})
    assert answer.status == 422
    first = daemon.submit("echo", "first", output=str(precious))
    daemon.finished(first)
    until(lambda: precious.read_text() == "precious\nfirst\n", "it comes after what is there")
    second = daemon.submit("echo", "second", output=str(precious), open_mode="truncate")
    done = daemon.finished(second)
    until(lambda: precious.read_text() == "second\n" and not precious.is_symlink(), "as it was asked for")
    assert (done["open_mode"], "open_mode" in done["spec"]) == ("truncate", False)
    assert "--open-mode truncate" in done["resubmit"]


@pytest.mark.parametrize("pattern", ["/x/%", "/%s", "/%5"])
def test_a_mark_that_is_none_is_refused(pattern: str):
    with pytest.raises(ValueError, match="is none of"):
        expand(pattern, job_id=1, array_id=None, array_index=None, name="n", user="u")


def test_a_tracked_job_keeps_its_run_over_attempts_and_retries(daemon: Daemon):
    script = 'echo "$WANDB_RUN_ID $WANDB_RESUME $TENSORBOARD_LOGGING_DIR"; exit 3'
    spec = {"retries": 1, "retry_delay_s": 0, "fail_fast": False, "track": ["wandb", "tensorboard"]}
    job = daemon.submit("sh", "-c", script, **spec)
    done = daemon.finished(job)
    first = daemon.output(job, 1)
    assert first == daemon.output(job, 2)
    run, resume, directory = first.split()
    assert run.endswith(f"-{job}")
    assert (resume, directory) == ("allow", f"{done['checkpoint_dir']}/tensorboard")
    again = daemon.post(f"/v1/jobs/{job}/retry").json["id"]
    daemon.finished(again)
    assert daemon.output(again, 1) == first
    plain = daemon.submit("sh", "-c", script)
    daemon.finished(plain)
    assert daemon.output(plain).strip() == ""
    mine = daemon.submit("sh", "-c", script, track=["wandb"], env={"WANDB_RUN_ID": "my-own"})
    daemon.finished(mine)
    assert daemon.output(mine).startswith("my-own "), "who names a run has the last word"


def test_tensorboard_is_that_of_the_jobs_environment(daemon: Daemon, tmp_path: Path):
    venv = tmp_path / "venv" / "bin"
    venv.mkdir(parents=True)
    (venv / "tensorboard").write_text('#!/bin/sh\necho "tensorboard $*"\n')
    (venv / "tensorboard").chmod(0o755)
    job = daemon.submit("true", env={"VIRTUAL_ENV": str(venv.parent)})
    done = daemon.finished(job)
    shown = subprocess.run(
        [sys.executable, "-m", "leptond.cli", "tensorboard", str(job), "--port", "7007"],
        env={**os.environ, "LEPTOND_HOST": f"unix://{daemon.socket}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert shown.stdout == f"tensorboard --logdir {done['checkpoint_dir']} --port 7007\n"
    assert "no event files" in shown.stderr
