"""Devices that are not there: for a laptop, a demonstration, a test. Jobs get them like real ones, and
torch, which finds none, runs on the CPU.

A JSON file can tell how they are doing, so that every path of the scheduler can be walked without a GPU:
``{"devices": {"0": {"temperature_c": 95, "memory_used_bytes": 1, "error": "GPU is lost", "missing": true,
"processes": [{"pid": 1}]}}, "hang": false}``. It is read at every sample.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from leptond.core.topology import Topology, places
from leptond.gpus.base import Device, GpuBackendError, Process, Sample

MODEL = "Simulated GPU"
MEMORY_BYTES = 24 * 1024**3


def uuid_of(index: int) -> str:
    """The UUID of simulated device `index`: the same at every start, and plainly not a real one.

    >>> uuid_of(3)
    'GPU-00000000-51d0-0000-0000-000000000003'
    """
    return f"GPU-00000000-51d0-0000-0000-{index:012x}"


class _DeviceState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    temperature_c: float | None = None
    memory_used_bytes: int | None = None
    utilization: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    error: str | None = None
    missing: bool = False
    processes: list[Process] = []


class _State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    devices: dict[str, _DeviceState] = {}
    hang: bool = False


class SimulatedBackend:
    """`count` devices of one model, connected as `topology` says."""

    name = "simulated"
    note: str | None = "these GPUs are simulated: jobs are scheduled on them, but run on the CPU"

    def __init__(
        self,
        count: int,
        state_file: Path | None = None,
        *,
        topology: Topology = "none",
        model: str = MODEL,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._count = count
        self._state_file = state_file
        self._topology = topology
        self._model = model
        self._memory_bytes = memory_bytes
        self._opened: list[int] = []

    async def open(self) -> list[Device]:
        state = self._state()
        if state.hang:
            raise GpuBackendError("the simulated driver does not answer")
        there = [
            index for index in range(self._count) if not state.devices.get(str(index), _DeviceState()).missing
        ]
        spots = places(self._topology, self._count, sorted(os.sched_getaffinity(0)))
        self._opened = there
        return [
            Device(
                uuid=uuid_of(index),
                index=index,
                name=self._model,
                memory_bytes=self._memory_bytes,
                simulated=True,
                numa_node=spots[index].numa_node,
                cpus=",".join(map(str, spots[index].cpus)) or None,
                links={uuid_of(other): link for other, link in spots[index].links.items() if other in there},
            )
            for index in there
        ]

    async def sample(self) -> list[Sample]:
        state = self._state()
        samples = []
        for index in self._opened:
            one = state.devices.get(str(index), _DeviceState())
            error = one.error
            if state.hang:
                one, error = _DeviceState(), "no answer from the driver"
            elif one.missing:
                one, error = _DeviceState(), "the device is not present any more"
            samples.append(
                Sample(
                    uuid=uuid_of(index),
                    sampled_at=time.time(),
                    memory_used_bytes=one.memory_used_bytes,
                    utilization=one.utilization,
                    temperature_c=one.temperature_c,
                    power_w=one.power_w,
                    energy_j=one.energy_j,
                    processes=one.processes,
                    error=error,
                )
            )
        return samples

    async def close(self) -> None:
        return None

    def _state(self) -> _State:
        if self._state_file is None:
            return _State()
        try:
            return msgspec.json.decode(self._state_file.read_bytes(), type=_State)
        except FileNotFoundError:
            return _State()
        except (OSError, msgspec.DecodeError) as error:
            raise GpuBackendError(f"{self._state_file}: {error}") from error
