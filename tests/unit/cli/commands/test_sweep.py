"""sweep and sweeps: what is asked of the daemon, what is refused here, and how the trials are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leptond import schema
from leptond.core.jobs.model import State
from leptond.schema import sweeps
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Answer, Stub, make_job


@pytest.fixture(autouse=True)
def script(stub: Stub, home: Path) -> Path:
    (home / "work/train.py").write_text("print()\n")
    made = sweeps.SweepSubmitted(id=47, ids=[47, 48], name="train.py", trials=[{"lr": 0.1}, {"lr": 0.2}])
    stub.on("POST", "/v1/sweeps", Answer(made, status=201))
    return home / "work/train.py"


def asked(stub: Stub) -> dict[str, Any]:
    found: dict[str, Any] = stub.asked[-1].body
    return found


def test_a_script_alone_goes_to_the_python_of_this_shell(cli: Cli, stub: Stub):
    result = cli("sweep", "train.py", "--grid", "lr=1e-3,1e-4", "--grid", "opt=adamw,sgd", "--gpus", "1")
    assert (result.code, result.out) == (0, "Submitted sweep 47 (2 trials)\n")
    assert "leptonctl sweeps 47" in result.err
    body = asked(stub)
    assert body["grid"] == {"lr": [0.001, 0.0001], "opt": ["adamw", "sgd"]}
    assert (Path(body["job"]["argv"][0]).name.startswith("python"), body["job"]["argv"][1:]) == (
        True,
        ["train.py"],
    )
    assert body["job"]["gpus"] == 1
    assert not {"halving", "mode", "eta", "random", "trials"} & set(body), (
        "what was not said is the daemon's to say"
    )


def test_the_options_of_a_sweep_and_of_its_jobs(cli: Cli, stub: Stub):
    options = "--random lr=log:1e-5..1e-1 --n 20 --seed 7 --metric acc --maximize --min-step 100 --eta 4"
    more = "--concurrent 3 --no-halving --no-arguments --time 2h --param fixed=3 -q"
    result = cli("sweep", *options.split(), *more.split(), "--", "python3", "train.py", "--epochs", "3")
    assert result.out == "47\n"
    body = asked(stub)
    job = body.pop("job")
    assert body == {
        "random": {"lr": "log:1e-5..1e-1"}, "trials": 20, "seed": 7, "metric": "acc", "mode": "max",
        "min_step": 100, "eta": 4, "concurrent": 3, "halving": False, "arguments": False,
    }  # fmt: skip
    assert job["argv"][1:] == ["train.py", "--epochs", "3"]
    assert (job["time_limit_s"], job["params"]) == (7200.0, {"fixed": 3})


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("train.py", "nothing to try"),
        ("train.py --grid lr", "NAME=VALUES"),
        ("train.py --grid lr=1 --grid lr=2", "twice"),
        ("train.py --grid lr=1,,2", "empty value"),
        ("train.py --random lr=log:1..2", "--n"),
        ("train.py --grid lr=1 --random lr=log:1..2 --n 3", "in --grid and in --random"),
        ("train.py --grid lr=1 --array 0-3", "an array of its own"),
        ("train.py --grid lr=1 --eta 1", "--eta"),
        ("train.py --grid lr=1 --epochs 3", "--epochs"),
        ("--grid lr=1", "COMMAND"),
    ],
)
def test_what_makes_no_sense_is_refused_here(cli: Cli, stub: Stub, words: str, what: str):
    result = cli("sweep", *words.split())
    assert result.code == 2
    assert what in result.err
    assert not stub.asked


def trial(number: int, value: float | None, state: State, **more: Any) -> sweeps.SweepTrial:
    return sweeps.SweepTrial(
        id=47 + number,
        ref=f"47_{number}",
        number=number,
        params={"lr": 0.1 * number},
        state=state,
        value=value,
        **more,
    )


def test_the_best_comes_first_and_what_was_stopped_says_why(cli: Cli, stub: Stub):
    why = "stopped early: rung 100, value 2.5, 3rd of 3; the best goes on"
    early = {"stopped_early": True, "explanation": why, "saved_gpu_seconds": 90.0, "gpu_seconds": 10.0}
    sweep = sweeps.Sweep(
        id=47, name="train.py", user="ana", state="ended", submitted_at=make_job().submitted_at,
        metric="loss",
        mode="min", halving=True, eta=3, min_step=100, asked={},
        counts={"succeeded": 2, "stopped_early": 1},
        best=sweeps.SweepBest(id=49, ref="47_2", params={"lr": 0.2}, value=0.5, step=300),
        gpu_seconds=210.0, saved_gpu_seconds=90.0,
        trials=[
            trial(0, 1.5, State.SUCCEEDED), trial(1, 0.4, State.CANCELLED, **early),
            trial(2, 0.5, State.SUCCEEDED), trial(3, None, State.FAILED),
        ],
    )  # fmt: skip
    stub.on("GET", "/v1/sweeps/47", sweep)
    for name in ("47", "47_*"):
        rows = cli("sweeps", name).rows
        assert [row[0] for row in rows] == ["TRIAL", "47_2", "47_0", "47_1", "47_3"]
    assert rows[0][:3] == ["TRIAL", "lr", "LOSS"]
    assert rows[3][4:] == ["stopped early", "10.0", "90.0", "rung 100, value 2.5, 3rd of 3; the best goes on"]
    stub.on("GET", "/v1/sweeps", sweeps.SweepPage(items=[sweep]))
    (_, line) = cli("sweeps").rows
    assert line[:7] == [
        "47",
        "train.py",
        "ana",
        "ended",
        "1 stopped early, 2 succeeded",
        "loss 0.5",
        "lr=0.2",
    ]
    assert cli("sweeps", "@last").rows == rows
    assert cli("sweeps", "x").code == 2
    stub.on("GET", "/v1/sweeps", sweeps.SweepPage(items=[]))
    assert cli("sweeps", "@last").code == 3
    assert cli("sweep", "train.py", "--grid", "lr=1,2", "--wait").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["nope.py"],
        ["--", "python3", "nope.py", "--x", "1"],
        ["--", "sh", "nope.sh"],
        ["--", "no-such-program"],
    ],
)
def test_a_command_that_is_not_there_is_refused_before_every_trial_fails(cli: Cli, stub: Stub, words):
    asked_before = len(stub.asked)
    result = cli("sweep", "--grid", "lr=1,2", *words)
    assert result.code == 2
    assert "every trial would fail" in result.err
    assert len(stub.asked) == asked_before


@pytest.mark.parametrize("words", [["--", "python3", "{script}.py"], ["--", "python3", "-m", "json.tool"]])
def test_what_a_parameter_fills_in_and_modules_are_not_looked_at(cli: Cli, words):
    assert cli("sweep", "--grid", "script=a,b", *words).code == 0


@pytest.mark.parametrize(
    ("metrics", "state", "says"),
    [
        ({"acc": 0.5, "f1": 0.1}, State.SUCCEEDED, "They report acc, f1: name one with --metric acc"),
        ({}, State.SUCCEEDED, "job.report(step=n, total=N, loss=...)"),
        ({}, State.FAILED, "No trial has succeeded: see why of one with: leptonctl why 47_0"),
    ],
)
def test_a_sweep_whose_trials_report_nothing_says_so(
    cli: Cli, stub: Stub, metrics: dict[str, float], state: State, says: str
):
    sweep = sweeps.Sweep(
        id=47, name="t", user="ana", state="ended", submitted_at=make_job().submitted_at, metric="loss",
        mode="min", halving=True, eta=3, min_step=None, asked={}, counts={str(state): 2}, best=None,
        gpu_seconds=2.0, saved_gpu_seconds=0.0, trials=[trial(0, None, state), trial(1, None, state)],
    )  # fmt: skip
    stub.on("GET", "/v1/sweeps/47", sweep)
    stub.on("GET", "/v1/jobs/47_0", make_job(id=47, progress=schema.Progress(attempt=1, metrics=metrics)))
    assert says in " ".join(cli("sweeps", "47").err.split())
