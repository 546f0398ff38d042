"""Samples summed up."""

import pytest

from leptond.core.jobs.model import Attempt, LeasedGpu
from leptond.gpus.base import Device, Sample
from leptond.services.gpu_usage import GpuUsage


def attempt(name, *uuids):
    fields = {field: None for field in Attempt.__struct_fields__ if field != "class_"}
    gpus = [LeasedGpu(uuid=uuid, index=0) for uuid in uuids]
    return Attempt(**{**fields, "class_": None, "id": name, "gpus": gpus})


def device(uuid, **more):
    return Device(uuid=uuid, index=0, name="x", memory_bytes=1, **more)


@pytest.fixture
def usage():
    one = GpuUsage(sample_s=10.0)
    one.set_devices([device("A"), device("B", simulated=True), device("M", mig=True)])
    return one


def look(usage, at, **loads):
    usage.observe([Sample(uuid=uuid, sampled_at=at, **sample) for uuid, sample in loads.items()])


def test_idle_and_used_time_and_the_first_use(usage):
    usage.begin(attempt("a", "A"), 100.0)
    for at, load in ((95.0, 0.9), (105.0, 0.01), (115.0, 0.02), (125.0, 0.5), (135.0, 0.0)):
        look(usage, at, A={"utilization": load, "memory_used_bytes": int(at)})
    (use,) = usage.of("a")
    assert (use.sampled_ms, use.idle_ms) == (35_000, 25_000), "from its beginning on"
    assert (use.first_use_at, use.max_utilization, use.max_memory_bytes) == (125.0, 0.5, 135)


def test_a_silent_driver_is_not_taken_for_an_idle_device(usage):
    usage.begin(attempt("a", "A"), 0.0)
    look(usage, 10.0, A={"utilization": 0.0})
    look(usage, 20.0, A={"utilization": 0.0, "error": "no answer"})
    look(usage, 500.0, A={"utilization": 0.0})
    look(usage, 510.0, A={})
    (use,) = usage.of("a")
    assert (use.sampled_ms, use.idle_ms) == (30_000, 30_000)


def test_energy_by_counter_else_by_power_and_none_of_a_slice(usage):
    usage.begin(attempt("a", "A", "M"), 0.0)
    look(usage, 10.0, A={"energy_j": 5.0}, B={"power_w": 20.0}, M={"energy_j": 5.0})
    look(usage, 20.0, A={"energy_j": 7.5}, B={"power_w": 20.0}, M={"energy_j": 9.0})
    look(usage, 30.0, A={"energy_j": 1.0, "power_w": 3.0}, M={"power_w": 9.0})
    mine = {use.gpu: use for use in usage.of("a")}
    assert (mine["A"].energy_mj, mine["A"].energy_source) == (2500 + 30_000, "counter")
    assert mine["M"].energy_mj is None
    _, idle = usage.take_unwritten()
    assert [(one.gpu, one.hour, one.energy_mj, one.energy_source) for one in idle] == [
        ("B", 0, 200_000, "simulated")
    ]


def test_those_who_share_a_device_share_its_time_and_energy(usage):
    usage.begin(attempt("a", "A"), 0.0)
    usage.begin(attempt("b", "A"), 0.0)
    look(usage, 10.0, A={"utilization": 0.0, "energy_j": 0.0})
    look(usage, 20.0, A={"utilization": 0.0, "energy_j": 8.0})
    assert [(use.idle_ms, use.energy_mj) for name in "ab" for use in usage.of(name)] == [(5000, 4000)] * 2


def test_what_could_not_be_written_is_kept(usage):
    usage.begin(attempt("a", "A"), 0.0)
    look(usage, 10.0, A={"utilization": 0.0, "energy_j": 0.0})
    look(usage, 20.0, A={"utilization": 0.5, "energy_j": 8.0})
    before = usage.of("a")
    taken = usage.take_unwritten()
    assert usage.take_unwritten() == ([], [])
    usage.restore(*taken)
    assert usage.of("a") == before
    usage.end("a")
    assert usage.of("a") == []
    assert not usage.any_held
    usage.restore(*taken)
    assert usage.of("a") == []
