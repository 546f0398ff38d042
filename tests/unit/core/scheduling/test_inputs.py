"""The planner's input."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leptond.core.jobs.model import Gpu
from leptond.core.scheduling.inputs import CarriedState, FreeCapacity, PlanInput, Running, Start


def gpu(number, **more):
    return Gpu(uuid=f"GPU-{number}", index=number, name="x", memory_bytes=100, **more)


def inputs(*running, gpus=4, slots=2):
    devices = gpus if isinstance(gpus, list) else [gpu(i) for i in range(gpus)]
    return PlanInput(running=running, gpus=devices, cpu_slots=slots, now=0.0)


@pytest.mark.parametrize(
    ("given_inputs", "starts", "free"),
    [
        (inputs(), (), FreeCapacity(gpus=4, slots=2)),
        (inputs(Running(id=1, gpus=["GPU-0", "GPU-1"])), (), FreeCapacity(gpus=2, slots=2)),
        (inputs(Running(id=1, gpus=["GPU-0"], share_bytes=10)), (), FreeCapacity(gpus=3, slots=2, shared=1)),
        (inputs(Running(id=1, gpus=[])), (), FreeCapacity(gpus=4, slots=1)),
        (inputs(*(Running(id=i, gpus=[]) for i in range(5))), (), FreeCapacity(gpus=4, slots=0)),
        (
            inputs(),
            (Start(id=1, gpus=["GPU-3"]), Start(id=2, gpus=[])),
            FreeCapacity(gpus=3, slots=1),
        ),
        (inputs(gpus=[gpu(0, schedulable=False, why_not="x"), gpu(1)]), (), FreeCapacity(gpus=1, slots=2)),
    ],
)
def test_what_is_free(given_inputs, starts, free):
    assert given_inputs.free_capacity(starts) == free


@given(gpus=st.integers(0, 2), slots=st.integers(0, 2), shared=st.integers(0, 2))
def test_capacity_is_true_where_anything_could_start(gpus, slots, shared):
    assert bool(FreeCapacity(gpus=gpus, slots=slots, shared=shared)) == (gpus + slots + shared > 0)


def test_the_carried_state_is_stored_under_the_names_of_0_4_0():
    stored = msgspec.to_builtins(CarriedState(owed_gpu_s=5.0, serving_overdue=True))
    assert stored.items() >= {"owed_gpu_s": 5.0, "batch": True}.items()
    old = msgspec.json.decode(b'{"owed_gpu_s":5.0,"batch":true}', type=CarriedState)
    assert old == CarriedState(owed_gpu_s=5.0, serving_overdue=True)
