"""The examples, as jobs of a real daemon."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from leptond.client.torchrun import under_torchrun
from leptond.train.examples import char_lm
from tests.support.daemon import until

TOP = str(Path(__file__).parents[2])


def example(name, *options):
    return [sys.executable, "-m", f"leptond.train.examples.{name}", *options]


SMALL = ("--steps", "40", "--every", "10", "--width", "32", "--layers", "1", "--context", "32")


def test_the_transformer_trains(warm_daemon):
    done = warm_daemon.finished(warm_daemon.submit(*example("small_gpt", *SMALL), cwd=TOP))
    out = warm_daemon.output(done["id"])
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


def test_the_classifier_reads_handwritten_digits(warm_daemon):
    pytest.importorskip("sklearn")
    done = warm_daemon.finished(warm_daemon.submit(*example("digits", "--steps", "200"), cwd=TOP))
    out = warm_daemon.output(done["id"])
    assert done["state"] == "succeeded", out
    assert float(re.search(r"final: ([0-9.]+)%", out)[1]) > 80


@pytest.mark.slow  # one more that imports torch and the digits
def test_the_trial_of_a_sweep_is_measured_at_its_rungs(warm_daemon):
    pytest.importorskip("sklearn")
    body = {"job": {"argv": example("sweep", "--steps", "100"), "cwd": TOP}, "grid": {"lr": [3e-3]}}
    sweep = warm_daemon.post("/v1/sweeps", {**body, "metric": "held_out", "min_step": 40, "eta": 2}).json[
        "id"
    ]
    done = warm_daemon.finished(sweep)
    assert done["state"] == "succeeded", warm_daemon.output(sweep)
    (trial,) = warm_daemon.get(f"/v1/sweeps/{sweep}").json["trials"]
    assert [(rung["rung"], rung["step"]) for rung in trial["rungs"]] == [(40, 40), (80, 80)]
    assert trial["value"] < trial["rungs"][1]["value"] < trial["rungs"][0]["value"] < 2.4


def final(daemon, number):
    done = daemon.finished(number)
    out = daemon.output(number)
    assert done["state"] == "succeeded", out
    return done, re.search(r"^final: .*$", out, re.M)[0]


def killed_on_the_way(daemon, argv):
    """The last line of a job that was killed after a checkpoint and went on from there."""
    number = daemon.submit(*argv, cwd=TOP, retries=1, retry_delay_s=0)
    found = until(lambda: ((one := daemon.job(number))["progress"] or {}).get("checkpoint_step") and one)
    os.kill(found["attempts"][0]["pid"], signal.SIGKILL)
    done, got = final(daemon, number)
    assert [one["class"] for one in done["attempts"]] == ["external-kill", "ok"]
    return got


def test_the_plain_one_goes_on_where_it_was(warm_daemon, monkeypatch, capsys):
    argv = example("char_lm", "--steps", "200", "--width", "16")
    monkeypatch.setattr(sys, "argv", argv[2:])
    char_lm.main()
    wanted = capsys.readouterr().out.splitlines()[-1]
    assert killed_on_the_way(warm_daemon, argv) == wanted
    assert float(wanted.split()[-1]) < 3.5


@pytest.mark.slow  # importing it alone takes seconds
@pytest.mark.timeout(300)
def test_lightning_goes_on_with_the_same_bits(daemon):
    pytest.importorskip("lightning")
    pytest.importorskip("sklearn")
    argv = example("lightning_digits", "--steps", "150", "--every", "20")
    _, wanted = final(daemon, daemon.submit(*argv, cwd=TOP))
    assert killed_on_the_way(daemon, argv) == wanted
    assert float(re.search(r"([0-9.]+)% of", wanted)[1]) > 75


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fine_tuning_goes_on_where_it_was(daemon):
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    argv = example("finetune_hf", "--steps", "120", "--tune-steps", "60")
    _, wanted = final(daemon, daemon.submit(*argv, cwd=TOP))
    assert killed_on_the_way(daemon, argv) == wanted
    before, after = (float(loss) for loss in re.findall(r"([0-9.]+) (?:before|after)", wanted))
    assert after < before - 0.05


EXAMPLES = sorted(file.stem for file in (Path(TOP) / "leptond" / "train" / "examples").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_can_be_read_at_a_sitting(name):
    text = (Path(TOP) / "leptond" / "train" / "examples" / f"{name}.py").read_text()
    assert len(text.splitlines()) < 150
