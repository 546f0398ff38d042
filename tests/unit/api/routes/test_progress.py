"""Curves and knobs over HTTP."""

import json

import pytest

from leptond.api.routes.progress import checkpoints
from leptond.attempt_files import layout
from leptond.core.jobs.model import Knob
from leptond.core.training.progress import ProgressMessage, new_batch
from leptond.store.database.events import Event
from leptond.store.training import progress


@pytest.fixture
async def job(world):
    """A job that has declared a learning rate, and its attempt."""
    number = await world.submit(gpus=1)
    attempt = await world.start(number, "GPU-0")
    now = world.context.clock.wall()
    for step in (1, 2):
        one = ProgressMessage(
            v=1,
            attempt=attempt,
            at=now + step,
            step=step,
            total=10,
            metrics={"loss": 1.0 / step},
            knobs={"lr": Knob(value=0.1, low=0.0, high=1.0)},
        )
        await world.store.write(progress.record, [new_batch(one)], now=now + step)
    return number, attempt


async def test_the_curve_of_a_job(world, job):
    curve = (await world.get(f"/v1/jobs/{job[0]}/metrics")).json
    assert (curve["job_id"], curve["reports"]) == (job[0], 2)
    assert [(one["step"], one["values"]["loss"]) for one in curve["points"]] == [(1, 1.0), (2, 0.5)]
    assert (await world.get("/v1/jobs/99/metrics")).status == 404


async def test_a_knob_that_is_turned_reaches_the_attempt_and_the_retries(world, job):
    directory = world.directory(job[0])
    answer = await world.post(f"/v1/jobs/{job[0]}/tune", {"values": {"lr": 0.5}})
    assert (answer.status, answer.json["tuned"]) == (200, {"lr": 0.5})
    assert "0.5" in (directory / layout.KNOBS).read_text()
    assert json.loads((directory / layout.KNOBS).read_text())


@pytest.mark.parametrize("values", [{"lr": 2.0}, {"momentum": 0.5}, {"lr": "much"}, {}])
async def test_a_knob_that_is_not_there_or_goes_too_far_changes_nothing(world, job, values):
    directory = world.directory(job[0])
    before = await world.everything()
    assert (await world.post(f"/v1/jobs/{job[0]}/tune", {"values": values})).status in (409, 422)
    assert await world.everything() == before
    assert not (directory / layout.KNOBS).exists()


def test_each_checkpoint_is_one_mark():
    def event(number, attempt, **data):
        return Event(id=number, at=1.0, type="job.progress", job_id=1, attempt=attempt, data=data)

    found = checkpoints(
        [
            event(1, 1, step=1),
            event(2, 1, checkpoint_step=5),
            event(3, 1, checkpoint_step=5),
            event(4, 2, checkpoint_step=5),
            event(5, 2, checkpoint_step=9),
        ]
    )
    assert [(one.id, one.attempt, one.data) for one in found] == [
        (2, 1, {"step": 5}),
        (4, 2, {"step": 5}),
        (5, 2, {"step": 9}),
    ]
    assert {one.type for one in found} == {"job.checkpoint"}
