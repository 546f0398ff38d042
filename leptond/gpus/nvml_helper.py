"""The process that talks to the NVIDIA driver, so that the daemon does not: a driver call can block for
ever, and then this process is left behind.

One JSON request a line on standard input (``{"call": "list"}`` or ``{"call": "sample"}``), one JSON answer
a line on standard output (``{"devices": [...]}``, ``{"samples": [...]}`` or ``{"error": ...}``). It ends
when its input ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pynvml

LIBRARY = "LEPTOND_NVML_LIBRARY"
"""Names another libnvidia-ml.so.1 than the loader's, for drivers in unusual places."""


def text(value: Any) -> str:
    """Older bindings return bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def asked(call: Callable[..., Any], *args: Any) -> Any:
    """What the driver answers, or None when it does not tell this of this device."""
    try:
        return call(*args)
    except (
        pynvml.NVMLError_NotSupported,
        pynvml.NVMLError_NoPermission,
        pynvml.NVMLError_FunctionNotFound,
        pynvml.NVMLError_InvalidArgument,
        pynvml.NVMLError_NotFound,
    ):
        return None


def handles() -> list[tuple[Any, Any, bool]]:
    """(handle, physical GPU's handle, is a MIG slice) of every device that jobs can use: a GPU whose MIG
    mode is on is used by its slices only."""
    found = []
    for number in range(pynvml.nvmlDeviceGetCount()):
        gpu = pynvml.nvmlDeviceGetHandleByIndex(number)
        mode = asked(pynvml.nvmlDeviceGetMigMode, gpu)
        if not mode or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            found.append((gpu, gpu, False))
            continue
        for slot in range(asked(pynvml.nvmlDeviceGetMaxMigDeviceCount, gpu) or 0):
            piece = asked(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, gpu, slot)
            if piece is not None:
                found.append((piece, gpu, True))
    return found


def list_devices() -> dict[str, Any]:
    """Every device, by index in the driver's (PCI bus) order."""
    devices = []
    for index, (handle, gpu, mig) in enumerate(handles()):
        memory = asked(pynvml.nvmlDeviceGetMemoryInfo, handle)
        pci = asked(pynvml.nvmlDeviceGetPciInfo, gpu)
        devices.append(
            {
                "uuid": text(pynvml.nvmlDeviceGetUUID(handle)),
                "index": index,
                "name": text(pynvml.nvmlDeviceGetName(handle)),
                "memory_bytes": memory.total if memory is not None else 0,
                "numa_node": asked(pynvml.nvmlDeviceGetNumaNodeId, gpu),
                "pci_bus_id": text(pci.busId) if pci is not None else None,
                "mig": mig,
            }
        )
    return {"devices": devices}


def sample_devices() -> dict[str, Any]:
    """How every device is doing; one that fails has an `error` and does not spoil the others."""
    samples = []
    for handle, gpu, mig in handles():
        uuid = text(pynvml.nvmlDeviceGetUUID(handle))
        try:
            samples.append(sample(uuid, handle, gpu, mig))
        except pynvml.NVMLError as error:
            samples.append({"uuid": uuid, "sampled_at": time.time(), "error": words(error)})
    return {"samples": samples}


def sample(uuid: str, handle: Any, gpu: Any, mig: bool) -> dict[str, Any]:
    """One device. Power, temperature and energy are those of the whole GPU; a slice has no load figure."""
    memory = asked(pynvml.nvmlDeviceGetMemoryInfo, handle)
    load = None if mig else asked(pynvml.nvmlDeviceGetUtilizationRates, gpu)
    milliwatts = asked(pynvml.nvmlDeviceGetPowerUsage, gpu)
    millijoules = asked(pynvml.nvmlDeviceGetTotalEnergyConsumption, gpu)
    processes = asked(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
    return {
        "uuid": uuid,
        "sampled_at": time.time(),
        "memory_used_bytes": memory.used if memory is not None else None,
        "utilization": load.gpu / 100 if load is not None else None,
        "temperature_c": asked(pynvml.nvmlDeviceGetTemperature, gpu, pynvml.NVML_TEMPERATURE_GPU),
        "power_w": milliwatts / 1000 if milliwatts is not None else None,
        "energy_j": millijoules / 1000 if millijoules is not None else None,
        "processes": [
            {"pid": one.pid, "memory_bytes": one.usedGpuMemory, "name": name_of(one.pid)} for one in processes
        ],
    }


def name_of(pid: int) -> str | None:
    """What /proc calls the process."""
    try:
        with open(f"/proc/{pid}/comm") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return None


def words(error: Exception) -> str:
    """The driver's error in words that the scheduler knows."""
    if isinstance(error, pynvml.NVMLError_GpuIsLost):
        return "GPU is lost: it has fallen off the bus"
    if isinstance(error, pynvml.NVMLError_ResetRequired):
        return "GPU requires a reset"
    return f"the driver says: {error}"


def load_library() -> None:
    """Points the bindings at another library, if one is named."""
    path = os.environ.get(LIBRARY)
    if path:
        from ctypes import CDLL

        pynvml.nvmlLib = CDLL(path)


def main() -> None:
    """Answers until the input ends."""
    calls = {"list": list_devices, "sample": sample_devices}
    ready = False
    for line in sys.stdin:
        try:
            request = json.loads(line)
            if not ready:
                load_library()
                pynvml.nvmlInit()
                ready = True
            answer = calls[request["call"]]()
        except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded) as error:
            answer = {"error": f"no NVIDIA driver: {error}", "missing": True}
        except pynvml.NVMLError as error:
            answer = {"error": words(error)}
        print(json.dumps(answer), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
