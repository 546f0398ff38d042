"""The examples, as jobs of a real daemon."""

import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from leptond.cli.ranks import under_torchrun

TOP = str(Path(__file__).parents[2])


def example(name, *options):
    return [sys.executable, "-m", f"leptond.train.examples.{name}", *options]


SMALL = ("--steps", "40", "--every", "10", "--width", "32", "--layers", "1", "--context", "32")


def test_the_transformer_trains(daemon):
    done = daemon.finished(daemon.submit(*example("small_gpt", *SMALL), cwd=TOP))
    out = daemon.output(done["id"])
    assert done["state"] == "succeeded", out
    assert (done["progress"]["step"], done["progress"]["checkpoint_step"]) == (40, 40)
    losses = [float(loss) for loss in re.findall(r"loss (\S+)", out)]
    assert losses[-1] < losses[0]
    assert "final: step=40" in out


@pytest.mark.slow  # three processes import torch
def test_the_transformer_trains_under_a_plan(daemon):
    argv = under_torchrun(example("small_gpt", *SMALL, "--plan", "tp=2"), 2)
    done = daemon.finished(daemon.submit(*argv, gpus=2, cwd=TOP))
    assert done["state"] == "succeeded", daemon.output(done["id"])
    assert (done["progress"]["step"], done["progress"]["checkpoint_step"]) == (40, 40)


def test_the_classifier_reads_handwritten_digits(daemon):
    pytest.importorskip("sklearn")
    done = daemon.finished(daemon.submit(*example("digits", "--steps", "200"), cwd=TOP))
    out = daemon.output(done["id"])
    assert done["state"] == "succeeded", out
    assert float(re.search(r"final: ([0-9.]+)%", out)[1]) > 80


def test_the_trial_of_a_sweep_is_measured_at_its_rungs(daemon):
    pytest.importorskip("sklearn")
    body = {"job": {"argv": example("sweep", "--steps", "100"), "cwd": TOP}, "grid": {"lr": [3e-3]}}
    sweep = daemon.post("/v1/sweeps", {**body, "metric": "held_out", "min_step": 40, "eta": 2}).json["id"]
    done = daemon.finished(sweep)
    assert done["state"] == "succeeded", daemon.output(sweep)
    (trial,) = daemon.get(f"/v1/sweeps/{sweep}").json["trials"]
    assert [(rung["rung"], rung["step"]) for rung in trial["rungs"]] == [(40, 40), (80, 80)]
    assert trial["value"] < trial["rungs"][1]["value"] < trial["rungs"][0]["value"] < 2.4


@pytest.mark.parametrize("name", ["small_gpt", "digits", "sweep"])
def test_an_example_can_be_read_at_a_sitting(name):
    text = (Path(TOP) / "leptond" / "train" / "examples" / f"{name}.py").read_text()
    assert len(text.splitlines()) < 150
