"""Variables that make an experiment tracker continue the same run when a job is tried again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Tracker = Literal["wandb", "tensorboard"]


def variables(trackers: Sequence[Tracker], *, run: str, checkpoint_dir: str) -> dict[str, str]:
    """The environment for `trackers`; `run` is the same for all attempts of a job and its retries.

    >>> variables(["wandb"], run="b1c2-47", checkpoint_dir="/c")
    {'WANDB_RUN_ID': 'b1c2-47', 'WANDB_RESUME': 'allow'}
    """
    found: dict[str, str] = {}
    if "wandb" in trackers:
        found |= {"WANDB_RUN_ID": run, "WANDB_RESUME": "allow"}
    if "tensorboard" in trackers:
        found["TENSORBOARD_LOGGING_DIR"] = f"{checkpoint_dir}/tensorboard"
    return found
