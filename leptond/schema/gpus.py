"""Devices, their use, and drains."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta


class GpuMinute(msgspec.Struct, kw_only=True):
    """A minute of a device: means of utilisation and power, peaks of memory and temperature."""

    at: datetime
    utilization: float | None = None
    memory_used_bytes: int | None = None
    power_w: float | None = None
    temperature_c: float | None = None


class GpuSeries(msgspec.Struct, kw_only=True):
    index: int
    uuid: str
    minutes: list[GpuMinute]


class GpuUse(msgspec.Struct, kw_only=True):
    """The use of a device by an attempt that had it, from samples. `idle_s`: held, but under 5% load, of
    `sampled_s`; `first_use_at`: when it was first loaded. `minutes` are those of the device meanwhile, as far
    back as the daemon remembers them (a day at most)."""

    attempt: int
    index: int
    uuid: str
    sampled_s: float = 0.0
    idle_s: float = 0.0
    first_use_at: datetime | None = None
    max_utilization: float | None = None
    max_memory_bytes: int | None = None
    energy_kwh: float | None = None
    energy_source: str | None = None
    minutes: list[GpuMinute] = []


class GpuHistoryList(msgspec.Struct, kw_only=True):
    """The recent load of the devices, as far back as the daemon runs (a day at most)."""

    items: list[GpuSeries]


class GpuProcess(msgspec.Struct, kw_only=True):
    pid: int
    name: str | None = None
    memory_bytes: int | None = None
    job_id: int | None = None


class GpuJob(msgspec.Struct, kw_only=True):
    """A job that has a GPU, or `memory_bytes` of it (null: the whole). `ref` is what people call it."""

    id: int
    ref: str
    attempt: int
    memory_bytes: int | None = None


class Gpu(msgspec.Struct, kw_only=True):
    """A device. `cpus`: those near it, as the kernel lists them; `links`: the way to other devices by their
    UUIDs, in the words of ``nvidia-smi topo -m``; `mig`: it is a slice of a GPU; `queue`: which owns it.
    `jobs` has everybody who holds it or a share of it, `job_id` the first of them; `memory_leased_bytes` is
    what they were promised."""

    index: int
    uuid: str
    name: str
    simulated: bool
    present: bool
    mig: bool = False
    numa_node: int | None = None
    cpus: str | None = None
    links: dict[str, str] = {}
    memory_total_bytes: int
    memory_used_bytes: int | None = None
    utilization: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    drained: bool
    drain_reason: str | None = None
    schedulable: bool
    why_not: str | None = None
    queue: str | None = None
    job_id: int | None = None
    attempt: int | None = None
    jobs: list[GpuJob] = []
    memory_leased_bytes: int = 0
    processes: list[GpuProcess] = []
    sampled_at: datetime | None = None


class GpuList(msgspec.Struct, kw_only=True):
    items: list[Gpu]
    backend: str
    note: str | None = None


class Drain(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(min_length=1, max_length=256)] = "drained by hand"
