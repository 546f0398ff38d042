"""Simulated devices: for a laptop, a demonstration, a test. Jobs get them like real ones, and
torch, which finds none, runs on the CPU.

A JSON file can set their readings, so that every path of the scheduler can be walked without a GPU:
``{"devices": {"0": {"temperature_c": 95, "memory_used_bytes": 1, "error": "GPU is lost", "missing": true,
"processes": [{"pid": 1}]}}, "hang": false}``. It is read at every sample, and readings that
it does not have are unknown. Without a file, load, power and energy are made up: a leased device is busy.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from leptond.core.scheduling.topology import Topology, places
from leptond.gpus.base import Device, GpuBackendError, Process, Sample

MODEL = "Simulated GPU"
MEMORY_BYTES = 24 * 1024**3


def uuid_of(index: int) -> str:
    """Return the UUID of simulated device `index`: the same at every start, and plainly not a real one.

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


IDLE_W, BUSY_W = 25.0, 300.0


def load_of(index: int, now: float) -> float:
    """Return the load of a leased simulated device: it wanders between 0.7 and 0.98, each device by its own
    phase."""
    return 0.84 + 0.14 * math.sin(now / 37.0 + index * 1.7)


class SimulatedBackend:
    """`count` devices of one model, connected as `topology` says. `held` gives the UUIDs of those that are
    leased: they show as busy."""

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
        held: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._count = count
        self._state_file = state_file
        self._topology = topology
        self._model = model
        self._memory_bytes = memory_bytes
        self._opened: list[int] = []
        self._energy_j: dict[int, float] = {}
        self._sampled_at: dict[int, float] = {}
        self._held = held

    async def open(self) -> list[Device]:
        devices = await self.rescan()
        self._opened = [device.index for device in devices]
        return devices

    async def rescan(self) -> list[Device]:
        state = self._state()
        if state.hang:
            raise GpuBackendError("the simulated driver does not answer")
        there = [
            index for index in range(self._count) if not state.devices.get(str(index), _DeviceState()).missing
        ]
        spots = places(self._topology, self._count, sorted(os.sched_getaffinity(0)))
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
        samples, held, now = [], self._held(), time.time()
        for index in self._opened:
            one = state.devices.get(str(index), _DeviceState())
            error = one.error
            if state.hang:
                one, error = _DeviceState(), "no answer from the driver"
            elif one.missing:
                one, error = _DeviceState(), "the device is not present any more"
            if self._state_file is None:
                one = self._made_up(index, now, busy=uuid_of(index) in held)
            samples.append(
                Sample(
                    uuid=uuid_of(index),
                    sampled_at=now,
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

    def _made_up(self, index: int, now: float, *, busy: bool) -> _DeviceState:
        load = load_of(index, now) if busy else 0.0
        power = IDLE_W + load * (BUSY_W - IDLE_W)
        since = max(0.0, now - self._sampled_at.get(index, now))
        self._sampled_at[index] = now
        self._energy_j[index] = self._energy_j.get(index, 0.0) + power * since
        return _DeviceState(
            utilization=round(load, 3), power_w=round(power, 1), energy_j=round(self._energy_j[index], 3)
        )

    def _state(self) -> _State:
        if self._state_file is None:
            return _State()
        try:
            return msgspec.json.decode(self._state_file.read_bytes(), type=_State)
        except FileNotFoundError:
            return _State()
        except (OSError, msgspec.DecodeError) as error:
            raise GpuBackendError(f"{self._state_file}: {error}") from error
