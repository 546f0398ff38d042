"""leptonctl and a real daemon with simulated GPUs: the whole way of a job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import PATIENCE_S, Daemon


@pytest.fixture
def ctl(daemon: Daemon, tmp_path: Path):
    """`ctl("queue")` runs leptonctl; `ctl.start(...)` leaves it running."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LEPTOND_HOST": f"unix://{daemon.socket}",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }

    def start(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "leptond.cli", *words],
            cwd=tmp_path,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(*words: str) -> tuple[int, str, str]:
        process = start(*words)
        out, err = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out, err

    call.start = start  # type: ignore[attr-defined]
    return call


def test_a_job_from_submit_to_history(ctl):
    code, out, err = ctl(
        "submit", "-q", "-g", "2", "-n", "hello", "--", "sh", "-c", "echo $LEPTOND_GPU_IDS; exit 3"
    )
    assert (code, err) == (0, "")
    job = out.strip()
    assert ctl("wait", job)[0] == 3
    assert ctl("logs", job)[1] == "0,1\n"
    shown = json.loads(ctl("show", "--json", job)[1])
    assert (shown["state"], shown["exit_code"], len(shown["attempts"])) == ("failed", 3, 1)
    assert ctl("history", "--no-header")[1].split("\t")[:2] == [job, "hello"]
    line = ctl("show", job)[1].splitlines()[-1]
    assert line.startswith("leptonctl submit --name hello --gpus 2")


@pytest.mark.parametrize(("command", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -SEGV $$", 139)])
def test_run_is_like_running_it_here(ctl, command, code):
    found, out, _ = ctl("run", "--", "sh", "-c", f"echo one; echo two >&2; {command}")
    assert (found, out) == (code, "one\ntwo\n")


def test_run_that_overruns_its_limit_leaves_with_124(ctl):
    assert ctl("run", "-t", "0.2s", "--grace", "0", "--", "sleep", "60")[0] == 124


def test_the_line_that_show_prints_queues_the_same_spec_again(ctl):
    ctl(
        "submit",
        "--hold",
        "-g",
        "1",
        "-t",
        "90m",
        "--label",
        "a=b c",
        "-e",
        "X=it's",
        "--shell",
        "echo '$X' | cat",
    )
    first = json.loads(ctl("show", "--json", "@last")[1])["spec"]
    line = ctl("show", "@last")[1].splitlines()[-1]
    words = subprocess.run(
        ["bash", "-c", f"leptonctl() {{ printf '%s\\0' \"$@\"; }}; {line}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")[:-1]
    assert ctl(*words)[0] == 0
    assert json.loads(ctl("show", "--json", "@last")[1])["spec"] == first


def test_a_large_array_is_held_released_cancelled_and_waited_for_in_one_request(ctl):
    array = ctl("submit", "-q", "--array", "0-999", "--hold", "--", "true")[1].strip()
    assert ctl("hold", array)[1] == f"1,000 jobs of array {array} are held\n"
    assert ctl("edit", array, "--priority", "3")[1] == f"1,000 jobs of array {array} are changed\n"
    assert json.loads(ctl("show", f"{array}_999", "--json")[1])["priority"] == 3
    waits = ctl("submit", "-q", "-d", array, "-n", "behind", "--", "true")[1].strip()
    assert f"{array}_*" in ctl("why", waits)[1]
    assert ctl("wait", "--timeout", "0.2s", array)[0] == 75
    assert (
        ctl("cancel", f"{array}_*", "--reason", "enough")[1] == f"1,000 jobs of array {array} are cancelled\n"
    )
    code, _, err = ctl("wait", array)
    assert (code, f"job {array}_0" in err, "enough" in err) == (130, True, True)
    assert ctl("wait", waits)[0] == 1, "what it waits for cannot happen"
    ctl("cancel", waits)


def test_an_array_is_waited_for_cancelled_and_depended_on_as_a_whole(ctl):
    array = ctl("submit", "-q", "--array", "0-3%2", "--hold", "--", "true")[1].strip()
    code, _, err = ctl("submit", "-q", "-d", array, "-n", "after", "--", "true")
    assert (code, err) == (0, "")
    assert json.loads(ctl("show", "after", "--json")[1])["spec"]["after"] == [f"{array}_*"]
    assert ctl("release", array)[1] == f"4 jobs of array {array} are released\n"
    assert ctl("wait", array, "after")[0] == 0
    again = ctl("submit", "-q", "--array", "0-3", "--hold", "--", "true")[1].strip()
    assert ctl("cancel", again)[1] == f"4 jobs of array {again} are cancelled\n"
    assert ctl("wait", again)[0] == 130


def test_a_restart_of_the_daemon_loses_nothing_of_a_followed_log(ctl, daemon: Daemon, tmp_path: Path):
    gate = tmp_path / "gate"
    wait = f"until [ -e {gate} ]; do sleep 0.05; done"
    program = f"for i in 1 2 3; do echo before $i; done; {wait}; echo after; exit 4"
    runner = ctl.start("run", "--", "sh", "-c", program)
    assert runner.stdout is not None
    assert [runner.stdout.readline() for _ in range(3)] == [f"before {i}\n" for i in (1, 2, 3)]
    daemon.kill()
    gate.touch()
    daemon.start()
    out, err = runner.communicate(timeout=PATIENCE_S)
    assert (runner.returncode, out) == (4, "after\n"), err


def test_ctrl_c_leaves_the_job_running(ctl, daemon: Daemon):
    runner = ctl.start("run", "--", "sh", "-c", "echo up; exec sleep 60")
    assert runner.stdout is not None
    assert runner.stdout.readline() == "up\n"
    runner.send_signal(signal.SIGINT)
    _, err = runner.communicate(timeout=PATIENCE_S)
    assert runner.returncode == 130
    assert "goes on" in err
    assert json.loads(ctl("show", "@last", "--json")[1])["state"] == "running"
    assert ctl("cancel", "@last", "--grace", "0")[0] == 0
    assert ctl("wait", "@last")[0] == 130


def test_refusals_have_their_codes(ctl):
    assert ctl("show", "999")[0] == 3
    assert ctl("submit", "-g", "99", "--", "true")[0] == 1
    job = ctl("submit", "-q", "--", "true")[1].strip()
    assert ctl("wait", job)[0] == 0
    assert ctl("hold", job)[0] == 4
    assert ctl("logs", job, "--attempt", "9")[0] == 3
    assert ctl("submit", "-n", "../x", "--", "true")[0] == 1


def test_what_waits_says_why(ctl):
    holder = ctl("submit", "-q", "-g", "4", "--", "sleep", "60")[1].strip()
    waiting = ctl("submit", "-q", "-g", "1", "--", "true")[1].strip()
    assert "Resources" in ctl("why", waiting)[1]
    rows = [line.split("\t") for line in ctl("queue", "--no-header")[1].splitlines()]
    assert [row[0] for row in rows] == [holder, waiting]
    assert ctl("drain", "0", "--reason", "fan")[1] == f"GPU 0: drained: fan; job {holder} goes on there\n"
    assert ctl("undrain", "0")[0] == 0
    assert ctl("edit", waiting, "-p", "5", "--label", "a=b")[0] == 0
    assert ctl("cancel", "--all", "--yes", "--grace", "0")[0] == 0
    assert ctl("wait", holder, waiting)[0] == 130
    events = json.loads(ctl("events", "--json")[1])
    assert {"job.submitted", "job.state", "job.edited", "gpu.state"} <= {e["type"] for e in events["items"]}


def test_status_and_doctor_of_a_real_daemon(ctl):
    code, out, _ = ctl("status")
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()].count("gpu") == 4
    _, out, _ = ctl("doctor", "--json")
    levels = {finding["check"]: finding["level"] for finding in json.loads(out)}
    assert {levels[check] for check in ("socket", "ready", "version", "clock")} == {"OK"}


SBATCH = """#!/bin/bash
#SBATCH --job-name=resnet
#SBATCH --nodes=1
#SBATCH --cpus-per-task=6
#SBATCH --mem=1G
#SBATCH --gres=gpu:1
#SBATCH --time=04:00:00
#SBATCH --array=2-8:2%2
#SBATCH --error=%x-%j.err
test -z "${SLURM_NTASKS-}${SLURM_PROCID-}"
echo "job $SLURM_ARRAY_JOB_ID task $SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_TASK_COUNT, $SLURM_CPUS_PER_TASK cpus"
echo "name $SLURM_JOB_NAME gpus $SLURM_GPUS in $SLURM_SUBMIT_DIR, id $SLURM_JOB_ID"
"""


def test_a_common_script_of_slurms(ctl, daemon: Daemon, tmp_path: Path):
    (tmp_path / "train.sbatch").write_text(SBATCH)
    code, _, err = ctl("submit", "train.sbatch")
    assert code == 2
    assert "--error %x-%j.err" in err
    (names,) = [line.split()[1] for line in err.splitlines() if line.startswith("--ignore-sbatch")]
    code, out, err = ctl("submit", "-q", "--ignore-sbatch", names, "train.sbatch")
    assert (code, "left out of the script: #SBATCH --error %x-%j.err" in err) == (0, True)
    array = int(out)
    for position, index in enumerate((2, 4, 6, 8)):
        ended = daemon.finished(array + position)
        assert (ended["state"], ended["cpus"], ended["mem_bytes"]) == ("succeeded", 6, 1024**3)
        assert daemon.output(array + position).splitlines() == [
            f"job {array} task {index} of 4, 6 cpus",
            f"name resnet gpus 1 in {tmp_path}, id {array + position}",
        ]


def test_a_partition_that_is_no_queue_can_be_left_out(ctl, daemon: Daemon, tmp_path: Path):
    (tmp_path / "part.sbatch").write_text("#!/bin/sh\n#SBATCH -p a100\necho ran\n")
    for words in (("submit",), ("submit", "--dry-run"), ("run",)):
        code, _, err = ctl(*words, "part.sbatch")
        assert (code, "there is no queue a100" in err) == (1, True)
        assert "--ignore-sbatch partition leaves the script's #SBATCH --partition out" in err
    _, _, err = ctl("submit", "--queue", "b200", "part.sbatch")  # a name that only the command line has
    assert "there is no queue b200" in err
    assert "--ignore-sbatch" not in err
    code, out, _ = ctl("submit", "-q", "--ignore-sbatch", "partition", "part.sbatch")
    assert (code, daemon.finished(int(out))["queue"]) == (0, "default")
