"""What is special about simulated devices."""

from pathlib import Path

import pytest

from leptond.core.scheduling.topology import Topology
from leptond.gpus.base import GpuBackendError
from leptond.gpus.simulated import SimulatedBackend, uuid_of


async def test_they_are_plainly_simulated_and_keep_their_names() -> None:
    devices = await SimulatedBackend(18).open()
    assert devices[17].uuid == uuid_of(17) == "GPU-00000000-51d0-0000-0000-000000000011"
    assert {(device.name, device.simulated) for device in devices} == {("Simulated GPU", True)}


async def test_without_a_state_load_power_and_energy_are_made_up_and_nothing_else() -> None:
    backend = SimulatedBackend(2, held=lambda: {uuid_of(1)})
    await backend.open()
    idle, busy = await backend.sample()
    known = {field for field in idle.__struct_fields__ if getattr(idle, field) not in (None, [])}
    assert known == {"uuid", "sampled_at", "utilization", "power_w", "energy_j"}
    assert idle.utilization == 0.0
    assert busy.utilization > 0.5
    assert busy.power_w > idle.power_w > 0
    later = await backend.sample()
    assert all(one.energy_j > before.energy_j for one, before in zip(later, (idle, busy), strict=True))


async def test_beside_a_state_file_nothing_is_made_up(tmp_path: Path) -> None:
    backend = SimulatedBackend(1, tmp_path / "state.json")
    await backend.open()
    (sample,) = await backend.sample()
    known = {field for field in sample.__struct_fields__ if getattr(sample, field) not in (None, [])}
    assert known == {"uuid", "sampled_at"}


@pytest.mark.parametrize("content", ["", "{", '{"devices": {"0": {"temperatur": 1}}}', '{"hang": 1}'])
async def test_a_state_that_is_not_understood_is_an_error(tmp_path: Path, content: str) -> None:
    state = tmp_path / "state.json"
    backend = SimulatedBackend(1, state)
    await backend.open()
    state.write_text(content)
    with pytest.raises(GpuBackendError, match=r"state\.json"):
        await backend.sample()


async def test_a_driver_that_hangs_at_the_start_lists_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text('{"hang": true}')
    with pytest.raises(GpuBackendError, match="does not answer"):
        await SimulatedBackend(1, state).open()


async def test_they_can_be_of_any_model_and_connected_as_on_real_machines() -> None:
    backend = SimulatedBackend(4, topology="pairs", model="NVIDIA H100 80GB HBM3", memory_bytes=80 << 30)
    devices = await backend.open()
    assert {(device.name, device.memory_bytes) for device in devices} == {("NVIDIA H100 80GB HBM3", 80 << 30)}
    assert [device.numa_node for device in devices] == [0, 0, 1, 1]
    assert devices[0].links == {uuid_of(1): "NV4", uuid_of(2): "SYS", uuid_of(3): "SYS"}
    assert all(device.cpus for device in devices)


@pytest.mark.parametrize("kind", ["none", "pcie", "pairs", "cube-mesh", "nvswitch"])
@pytest.mark.parametrize("count", [1, 2, 7, 16])
async def test_a_link_is_the_same_from_both_ends(kind: Topology, count: int) -> None:
    devices = {device.uuid: device for device in await SimulatedBackend(count, topology=kind).open()}
    for device in devices.values():
        assert len(device.links) == (0 if kind == "none" else count - 1)
        assert all(devices[other].links[device.uuid] == link for other, link in device.links.items())
