"""The example: an ordinary training script that learns, stops and resumes as a good job does."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "leptond" / "train" / "examples" / "char_lm.py"
SMALL = ["--width", "32", "--layers", "1", "--batch", "8", "--context", "32", "--report-every", "10"]


def command(tmp_path, *arguments):
    metrics = tmp_path / "metrics.jsonl"
    return [sys.executable, str(SCRIPT), *SMALL, "--metrics-file", str(metrics), *arguments]


def environment(**more):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LEPTOND_")}
    return {**clean, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **more}


def train(tmp_path, *arguments, code=0, **env):
    done = subprocess.run(
        command(tmp_path, *arguments),
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def reports(tmp_path):
    return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]


def test_it_learns(tmp_path):
    out = train(tmp_path, "--steps", "60").stdout
    losses = [one["held_out"] for one in reports(tmp_path)]
    assert losses[-1] < losses[0] - 0.3, losses
    assert "done: loss" in out


def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    train(whole, "--steps", "30")
    fails = ["--steps", "30", "--checkpoint-every", "10", "--fail-once-at-step", "15"]
    checkpoints = str(parts / "checkpoints")
    first = train(parts, *fails, code=1, LEPTOND_ATTEMPT="1", LEPTOND_CHECKPOINT_DIR=checkpoints)
    assert "a fault that goes away, at step 15" in first.stderr
    second = train(parts, *fails, LEPTOND_ATTEMPT="2", LEPTOND_CHECKPOINT_DIR=checkpoints)
    assert "resumed from step 10" in second.stdout
    one, other = reports(whole)[-1], reports(parts)[-1]
    assert (one["step"], other["step"]) == (30, 30)
    assert other["loss"] == pytest.approx(one["loss"], abs=1e-6)
    assert other["held_out"] == pytest.approx(one["held_out"], abs=1e-6)


def test_a_sigterm_saves_and_leaves(tmp_path):
    checkpoints = tmp_path / "checkpoints"
    with subprocess.Popen(
        command(tmp_path, "--steps", "100000", "--checkpoint-dir", str(checkpoints)),
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        for line in run.stdout:
            if line.startswith("step 10/"):
                run.send_signal(signal.SIGTERM)
            if "after SIGTERM" in line:
                break
        assert run.wait(60) == 0
    assert (checkpoints / "char_lm.pt").exists()
    assert not list(checkpoints.glob("*.tmp"))
    assert "resumed from step" in train(tmp_path, "--steps", "1", "--checkpoint-dir", str(checkpoints)).stdout


def test_two_ranks_train_one_model(tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, *command(tmp_path, "--steps", "20")[1:]],
        env=environment(TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 ranks hold the same weights" in done.stdout
    assert {one["world_size"] for one in reports(tmp_path)} == {2}


def test_mistakes_are_told_before_torch_is_imported(tmp_path):
    for arguments in (["--no-such-option"], ["--data-dir", "/no/such/place"], ["--steps", "many"]):
        done = train(tmp_path, *arguments, code=2, PYTHONPROFILEIMPORTTIME="1")
        assert "error: " in done.stderr
        assert "import time" in done.stderr
        assert " torch" not in done.stderr
