"""The facts about GPUs that every source of devices gives."""

from __future__ import annotations

from typing import Protocol

import msgspec


class GpuBackendError(Exception):
    """The devices cannot be listed or sampled; the message is a sentence for people."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device. `mig`: a slice of a GPU rather than a whole one; `pci_bus_id` is then that of
    the GPU. `cpus`: the CPUs that are nearest to it, as the kernel lists them (``0-15,32-47``). `links`: the
    way to other devices by their UUIDs, in the words of ``nvidia-smi topo -m``."""

    uuid: str
    index: int
    name: str
    memory_bytes: int
    simulated: bool = False
    numa_node: int | None = None
    cpus: str | None = None
    pci_bus_id: str | None = None
    mig: bool = False
    links: dict[str, str] = {}


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process that holds memory of a device. The driver does not always say how much."""

    pid: int
    memory_bytes: int | None = None
    name: str | None = None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of a device. None: the device or the driver does not report it. `error`: it did not answer
    properly. `utilization` is 0 to 1, `sampled_at` UTC seconds."""

    uuid: str
    sampled_at: float
    memory_used_bytes: int | None = None
    utilization: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    processes: list[Process] = []
    error: str | None = None


class GpuBackend(Protocol):
    """A source of devices. No call blocks the event loop, and none waits for ever."""

    name: str
    note: str | None

    async def open(self) -> list[Device]:
        """Find the devices. Raises GpuBackendError."""

    async def rescan(self) -> list[Device]:
        """Return the devices that are present now. Those that :meth:`open` found stay the ones that are
        sampled. Raises GpuBackendError."""

    async def sample(self) -> list[Sample]:
        """Return one sample a device. Raises GpuBackendError."""

    async def close(self) -> None:
        """Release what the backend holds."""


class NoGpus:
    """A machine that has none, or is to be used as if it had none."""

    name = "none"

    def __init__(self, note: str | None = None) -> None:
        self.note: str | None = note

    async def open(self) -> list[Device]:
        return []

    async def rescan(self) -> list[Device]:
        return []

    async def sample(self) -> list[Sample]:
        return []

    async def close(self) -> None:
        return None
