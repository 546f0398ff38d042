"""Devices: one protocol, the NVIDIA driver (asked in a helper process) and simulated GPUs behind it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from leptond.config import GpuSettings
from leptond.gpus.base import GpuBackend, NoGpus
from leptond.gpus.nvml import NvmlBackend, deadlines
from leptond.gpus.simulated import SimulatedBackend


def open_backend(
    settings: GpuSettings,
    on_note: Callable[[str], None] = lambda note: None,
    held: Callable[[], Collection[str]] = tuple,
) -> GpuBackend:
    """Return the backend that the settings name, not opened yet. `on_note` gets a sentence at every fault;
    `held` gives the UUIDs of leased devices, for the load of simulated ones."""
    match settings.backend:
        case "simulated":
            return SimulatedBackend(
                settings.simulate,
                Path(settings.state_file) if settings.state_file else None,
                topology=settings.simulate_topology,
                model=settings.simulate_model,
                memory_bytes=settings.simulate_memory_bytes,
                held=held,
            )
        case "none":
            return NoGpus("GPUs are switched off in the configuration")
        case kind:
            return NvmlBackend(
                optional=kind == "auto", times=deadlines(settings.driver_timeout_s), on_note=on_note
            )
