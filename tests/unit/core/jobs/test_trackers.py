"""Experiment trackers that go on with the same run."""

import pytest

from leptond.core.jobs.trackers import variables

WANDB = {"WANDB_RUN_ID": "b1-47", "WANDB_RESUME": "allow"}
TENSORBOARD = {"TENSORBOARD_LOGGING_DIR": "/c/tensorboard"}


@pytest.mark.parametrize(
    ("trackers", "expected"),
    [
        ([], {}),
        (["wandb"], WANDB),
        (["tensorboard"], TENSORBOARD),
        (["tensorboard", "wandb"], WANDB | TENSORBOARD),
    ],
)
def test_each_tracker_has_its_variables(trackers, expected):
    assert variables(trackers, run="b1-47", checkpoint_dir="/c") == expected
