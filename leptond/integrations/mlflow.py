"""MLflow in a leptond job: one run over all attempts.

    from leptond.integrations.mlflow import start_run

    with start_run():
        mlflow.log_metric(...)

MLflow hands the numbers of runs out itself, so the first attempt notes its run beside the checkpoints, and
every later one goes on with it. The run is also in MLFLOW_RUN_ID, where other libraries look for it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import mlflow

from leptond import job

NOTE = "mlflow-run-id"


def start_run(**options: Any) -> Any:
    """Start a run as ``mlflow.start_run`` does; on a retry, go on with the run of the first attempt. Outside
    a leptond job it is the same as MLflow's own."""
    note = Path(job.checkpoint_dir) / NOTE if job.checkpoint_dir is not None else None
    known = _noted(note)
    if known is not None:
        # a name is for a new run
        options = {**options, "run_id": known}
        options.pop("run_name", None)
    run = mlflow.start_run(**options)
    os.environ["MLFLOW_RUN_ID"] = run.info.run_id
    if note is not None and known is None:
        aside = note.with_name(f".{NOTE}.{os.getpid()}")
        aside.write_text(run.info.run_id)
        aside.replace(note)
    return run


def _noted(note: Path | None) -> str | None:
    if note is None:
        return None
    try:
        text = note.read_text().strip()
    except OSError:
        return None
    return text if re.fullmatch(r"[0-9a-f]{32}", text) else None
