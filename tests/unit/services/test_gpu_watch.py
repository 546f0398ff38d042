"""The watch over the devices finds those that come after the daemon has started."""

import asyncio

import msgspec

from leptond.base.clock import SystemClock
from leptond.base.locks import MachineLocks
from leptond.gpus.simulated import SimulatedBackend
from leptond.services import gpu_watch
from leptond.services.gpu_watch import GpuWatch
from leptond.store.queue import gpus
from tests.support.store import open_new_store
from tests.unit.gpus.worlds import SimulatedWorld


async def test_a_device_that_comes_late_is_given_away(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_watch, "DISCOVERY_S", 0.0)
    world = SimulatedWorld(tmp_path)
    world.remove_last()
    backend = world.backend()
    assert isinstance(backend, SimulatedBackend)
    async with open_new_store(tmp_path / "one.db") as store:
        watch = GpuWatch(backend, store, SystemClock(), 0.01)
        changed = asyncio.Event()
        watch.on_change(changed.set)
        await watch.open()
        assert [gpu.index for gpu in await store.read(gpus.known)] == [0]
        running = asyncio.create_task(watch.run())
        try:
            world.bring_last()
            async with asyncio.timeout(30):
                await changed.wait()
            assert [gpu.present for gpu in await store.read(gpus.known)] == [True, True]
            assert watch.unhealthy() == {}
        finally:
            running.cancel()


async def test_a_late_device_of_another_leptond_leaves_ours_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_watch, "DISCOVERY_S", 0.0)
    (tmp_path / "locks").mkdir()
    world = SimulatedWorld(tmp_path)
    world.remove_last()
    real = SimulatedBackend.rescan

    async def not_simulated(self):
        return [msgspec.structs.replace(device, simulated=False) for device in await real(self)]

    monkeypatch.setattr(SimulatedBackend, "rescan", not_simulated)
    theirs = MachineLocks(tmp_path / "locks")
    async with open_new_store(tmp_path / "one.db") as store:
        watch = GpuWatch(world.backend(), store, SystemClock(), 0.01, locks=MachineLocks(tmp_path / "locks"))
        await watch.open()
        world.bring_last()
        (_, second) = await world.backend().rescan()
        theirs.take(f"gpu-{second.uuid}")
        assert not await watch._new_devices()
        assert watch.unhealthy() == {}
        theirs.release()
        assert await watch._new_devices()
