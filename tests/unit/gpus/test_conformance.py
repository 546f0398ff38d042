"""What every backend promises, whoever its devices are."""

import asyncio
import os
import time

from leptond.gpus.base import GpuBackend, NoGpus, Sample
from tests.unit.gpus.conftest import Closing
from tests.unit.gpus.worlds import GIB, QUICK, World


async def test_devices_are_listed_in_order_and_the_same_each_time(world: World, closing: Closing) -> None:
    backend = closing(world.backend())
    devices = await backend.open()
    assert [device.index for device in devices] == [0, 1]
    assert len({device.uuid for device in devices}) == 2
    assert all(device.uuid.startswith("GPU-") and len(device.uuid) == 40 for device in devices)
    assert all(device.memory_bytes == 24 * GIB and device.name for device in devices)
    assert await closing(world.backend()).open() == devices


async def test_a_device_that_comes_is_seen_and_can_then_be_had(world: World, closing: Closing) -> None:
    world.remove_last()
    backend = closing(world.backend())
    (first,) = await backend.open()
    world.bring_last()
    assert [device.index for device in await backend.rescan()] == [0, 1]
    assert [sample.uuid for sample in await backend.sample()] == [first.uuid], "only seen"
    devices = await backend.open()
    assert [device.index for device in devices] == [0, 1]
    assert [sample.error for sample in await backend.sample()] == [None, None]
    assert await backend.rescan() == devices


async def test_a_sample_tells_what_is_known_and_nothing_else(world: World, closing: Closing) -> None:
    world.set(
        0,
        memory_used_bytes=3 * GIB,
        utilization=0.5,
        temperature_c=61,
        power_w=250.0,
        energy_j=1234.5,
        processes=[(os.getpid(), 2 * GIB), (os.getppid(), GIB)],
    )
    backend = closing(world.backend())
    devices = await backend.open()
    before = time.time()
    first, second = await backend.sample()
    assert [first.uuid, second.uuid] == [device.uuid for device in devices]
    assert before <= first.sampled_at <= time.time()
    assert (first.memory_used_bytes, first.utilization, first.temperature_c) == (3 * GIB, 0.5, 61)
    assert (first.power_w, first.energy_j, first.error) == (250.0, 1234.5, None)
    assert [(process.pid, process.memory_bytes) for process in first.processes] == [
        (os.getpid(), 2 * GIB),
        (os.getppid(), GIB),
    ]
    assert (second.utilization, second.temperature_c, second.power_w, second.energy_j) == (None,) * 4
    assert (second.processes, second.error) == ([], None)


async def test_a_change_is_in_the_next_sample(world: World, closing: Closing) -> None:
    backend = closing(world.backend())
    await backend.open()
    for temperature in (40, 90):
        world.set(1, temperature_c=temperature)
        assert [sample.temperature_c for sample in await backend.sample()] == [None, temperature]


async def test_a_device_that_fails_does_not_spoil_the_other(world: World, closing: Closing) -> None:
    world.set(1, temperature_c=50)
    backend = closing(world.backend())
    devices = await backend.open()
    world.fail(0)
    first, second = await backend.sample()
    assert [first.uuid, second.uuid] == [device.uuid for device in devices]
    assert "lost" in (first.error or "")
    assert (second.temperature_c, second.error) == (50, None)


async def test_a_device_that_goes_away_has_a_sample_that_says_so(world: World, closing: Closing) -> None:
    backend = closing(world.backend())
    devices = await backend.open()
    world.remove_last()
    first, second = await backend.sample()
    assert (first.error, second.uuid) == (None, devices[1].uuid)
    assert "not present" in (second.error or "")


async def test_a_device_that_is_away_at_the_start_is_not_listed(world: World, closing: Closing) -> None:
    backend = closing(world.backend())
    world.remove_last()
    assert [device.index for device in await backend.open()] == [0]
    assert len(await backend.sample()) == 1


async def test_a_hanging_driver_gives_errors_and_then_figures_again(world: World, closing: Closing) -> None:
    world.set(0, temperature_c=44)
    backend = closing(world.backend(QUICK))
    devices = await backend.open()
    world.hang(True)
    samples = await backend.sample()
    assert [sample.uuid for sample in samples] == [device.uuid for device in devices]
    assert all("no answer" in (sample.error or "") for sample in samples)
    assert all(sample.temperature_c is None for sample in samples)
    world.hang(False)
    samples = await _until_well(backend)
    assert samples[0].temperature_c == 44


async def test_questions_at_the_same_time_are_all_answered(world: World, closing: Closing) -> None:
    world.set(0, temperature_c=33)
    backend = closing(world.backend())
    await backend.open()
    answers = await asyncio.gather(*(backend.sample() for _ in range(8)))
    assert [samples[0].temperature_c for samples in answers] == [33] * 8


async def test_closing_twice_and_before_opening_is_harmless(world: World) -> None:
    unopened = world.backend()
    await unopened.close()
    backend = world.backend()
    await backend.open()
    await backend.close()
    await backend.close()


async def test_a_machine_without_gpus_has_none_and_says_why() -> None:
    backend: GpuBackend = NoGpus("switched off")
    assert (await backend.open(), await backend.sample(), backend.note) == ([], [], "switched off")
    await backend.close()


async def _until_well(backend: GpuBackend) -> list[Sample]:
    while True:
        samples = await backend.sample()
        if not any(sample.error for sample in samples):
            return samples
        await asyncio.sleep(0.02)
