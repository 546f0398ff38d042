"""`leptonctl tensorboard`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from leptond.core.jobs.model import JobSpec
from tests.unit.cli.conftest import Cli
from tests.unit.cli.stub import Stub


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with a tensorboard, and none on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    program = tmp_path / "env/bin/tensorboard"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path / "env"


def test_it_is_the_one_of_the_jobs_environment_over_its_checkpoints(cli: Cli, stub: Stub, env: Path):
    events = env / "events.out.tfevents.1"
    events.write_text("")
    stub.job(spec=JobSpec(argv=[f"{env}/bin/python", "x"], cwd="/w"), checkpoint_dir=str(env))
    result = cli("tensorboard", "47", "--json", "--port", "7000")
    assert json.loads(result.out)["argv"] == [
        f"{env}/bin/tensorboard",
        "--logdir",
        str(env),
        "--port",
        "7000",
    ]
    assert result.err == ""


def test_an_environment_that_is_only_named_counts_too_and_a_directory_of_the_jobs_own(
    cli: Cli, stub: Stub, env: Path
):
    spec = JobSpec(argv=["/bin/sh", "go.sh"], cwd="/w", env={"VIRTUAL_ENV": str(env)})
    stub.job(spec=spec)
    result = cli("tensorboard", "47", "--json", "--logdir", "runs")
    assert json.loads(result.out)["argv"][:3] == [f"{env}/bin/tensorboard", "--logdir", "/w/runs"]
    assert "there are no event files below /w/runs yet" in result.err


def test_it_takes_the_place_of_leptonctl(cli: Cli, stub: Stub, env: Path, monkeypatch):
    stub.job(spec=JobSpec(argv=[f"{env}/bin/python", "x"], cwd="/w"), checkpoint_dir=str(env))
    begun: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, words: begun.append([program, *words]))
    assert cli("tensorboard", "47").err.splitlines()[-1].startswith("http://127.0.0.1:6006")
    assert begun[0][:2] == [f"{env}/bin/tensorboard"] * 2


def test_without_the_program_it_says_how_to_get_it(cli: Cli, stub: Stub, env: Path):
    stub.job()
    result = cli("tensorboard", "47")
    assert result.code == 1
    assert "pip install tensorboard" in result.err
