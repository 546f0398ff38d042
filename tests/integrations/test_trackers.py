"""Trackers go on with one run over the attempts of a job: with the real packages, where installed."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

TOP = Path(__file__).parents[2]

MLFLOW = """
import sys, mlflow
from leptond import job
from leptond.integrations.mlflow import start_run
mlflow.set_tracking_uri(sys.argv[1])
with start_run(run_name="train") as run:
    mlflow.log_metric("loss", 1.0 / job.attempt, step=job.attempt)
    print("run", run.info.run_id)
    if job.attempt == 1:
        sys.exit(75)
print("points", len(mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")))
"""

WANDB = """
import sys, wandb
from leptond import job
run = wandb.init(project="test", dir=sys.argv[1], mode="offline")
run.log({"loss": 1.0 / job.attempt}, step=job.attempt)
print("run", run.id)
run.finish()
sys.exit(75 if job.attempt == 1 else 0)
"""


@pytest.mark.parametrize(
    ("package", "script", "place"), [("mlflow", MLFLOW, "sqlite:///{}/runs.db"), ("wandb", WANDB, "{}")]
)
def test_a_second_attempt_goes_on_with_the_run(daemon: Daemon, tmp_path: Path, package, script, place):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    words = [sys.executable, "-c", script, place.format(tmp_path)]
    job = daemon.submit(*words, env={"PYTHONPATH": str(TOP)}, track=["wandb"])
    done = daemon.finished(job)
    assert (done["state"], done["attempt"]) == ("succeeded", 2), daemon.output(job)
    runs = [re.search(r"^run (\S+)$", daemon.output(job, number), re.M)[1] for number in (1, 2)]
    assert runs[0] == runs[1]
    if package == "mlflow":
        assert "points 2" in daemon.output(job, 2)
