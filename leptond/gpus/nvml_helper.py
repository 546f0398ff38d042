"""The process that talks to the NVIDIA driver, so that the daemon does not: a driver call can block for
ever, and then this process is left behind.

One JSON request a line on standard input (``{"id": 1, "call": "list"}`` or ``{"id": 2, "call": "sample"}``),
one JSON answer a line on standard output, with the request's id: ``{"devices": [...], "problems": [...]}``,
``{"samples": [...]}`` or ``{"error": "...", "missing": true}``. It ends when its input ends, and when the
process that started it dies.

It is started by its path and imports nothing but the standard library and pynvml.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TextIO

import pynvml

LIBRARY = "LEPTOND_NVML_LIBRARY"
"""Names another libnvidia-ml.so.1 than the loader's, for drivers in unusual places."""

PCI_DEVICES = "/sys/bus/pci/devices"
PR_SET_PDEATHSIG = 1
MAX_CPUS = 4096
SWITCH = "switch"

UNREPORTED = (
    pynvml.NVMLError_NotSupported,
    pynvml.NVMLError_NoPermission,
    pynvml.NVMLError_FunctionNotFound,
    pynvml.NVMLError_InvalidArgument,
    pynvml.NVMLError_NotFound,
    pynvml.NVMLError_NoData,
)
"""Errors that say "not of this device" or "not to you": nothing is wrong with the device."""


LEVELS = {
    pynvml.NVML_TOPOLOGY_INTERNAL: "PIX",  # two GPUs of one board
    pynvml.NVML_TOPOLOGY_SINGLE: "PIX",
    pynvml.NVML_TOPOLOGY_MULTIPLE: "PXB",
    pynvml.NVML_TOPOLOGY_HOSTBRIDGE: "PHB",
    pynvml.NVML_TOPOLOGY_NODE: "NODE",
    pynvml.NVML_TOPOLOGY_SYSTEM: "SYS",
}
"""The nearest thing that two GPUs have in common, in the words of ``nvidia-smi topo -m``."""


class Found(NamedTuple):
    """A device that jobs can use: a whole GPU, or a slice (`handle`) of one (`gpu`)."""

    uuid: str
    handle: Any
    gpu: Any
    mig: bool


class Broken(NamedTuple):
    """A GPU that cannot be asked, with the UUIDs of the devices that it was when it could."""

    number: int
    error: str
    uuids: list[str]


_seen: dict[int, list[str]] = {}
"""The UUIDs that each GPU (by the driver's number) has shown: one that is lost does not report its own."""


def text(value: Any) -> str:
    """Return a string of the driver's, which older bindings return as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def asked(call: Callable[..., Any], *args: Any) -> Any:
    """Return what the driver answers, or None when it does not report this of this device. Raises
    NVMLError."""
    try:
        return call(*args)
    except UNREPORTED:
        return None


def optional(call: Callable[..., Any], *args: Any) -> Any:
    """As :func:`asked`, for optional facts: None at any error."""
    try:
        return call(*args)
    except pynvml.NVMLError:
        return None


class Reading:
    """Reads the figures of one device, and goes on after one that fails: `error` keeps the first failure,
    or that the device is lost, after which it is not asked again."""

    def __init__(self) -> None:
        self.error: str | None = None
        self._lost = False

    def __call__(self, call: Callable[..., Any], *args: Any) -> Any:
        if self._lost:
            return None
        try:
            return asked(call, *args)
        except pynvml.NVMLError as error:
            self._lost = isinstance(error, pynvml.NVMLError_GpuIsLost)
            if self._lost or self.error is None:
                self.error = words(error)
            return None


def walk() -> list[Found | Broken]:
    """Return every device, in the driver's order (that of the PCI bus). A GPU in MIG mode is used by its
    slices only. A GPU that fails does not spoil the others."""
    devices: list[Found | Broken] = []
    for number in range(pynvml.nvmlDeviceGetCount()):
        try:
            found = parts(pynvml.nvmlDeviceGetHandleByIndex(number))
        except pynvml.NVMLError as error:
            devices.append(Broken(number, words(error), _seen.get(number, [])))
            continue
        if found:
            _seen[number] = [device.uuid for device in found]
            devices.extend(found)
        else:
            devices.append(Broken(number, "its MIG mode is on, but it has no slices", []))
    return devices


def parts(gpu: Any) -> list[Found]:
    """Return a GPU as the devices that jobs can use: itself, or its slices."""
    mode = asked(pynvml.nvmlDeviceGetMigMode, gpu)
    if not mode or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return [Found(text(pynvml.nvmlDeviceGetUUID(gpu)), gpu, gpu, False)]
    slices = []
    for slot in range(asked(pynvml.nvmlDeviceGetMaxMigDeviceCount, gpu) or 0):
        piece = asked(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, gpu, slot)
        if piece is not None:
            slices.append(Found(text(pynvml.nvmlDeviceGetUUID(piece)), piece, gpu, True))
    return slices


def list_devices() -> dict[str, Any]:
    """Return the devices. `problems`: a sentence for every GPU that jobs cannot use."""
    devices, whole, problems = [], [], []
    for index, found in enumerate(walk()):
        if isinstance(found, Broken):
            problems.append(f"GPU {found.number} cannot be used: {found.error}")
            continue
        try:
            devices.append(describe(index, found))
        except pynvml.NVMLError as error:
            problems.append(f"GPU {found.uuid} cannot be used: {words(error)}")
            continue
        if not found.mig:
            whole.append(Port(found.uuid, found.gpu, devices[-1]["pci_bus_id"]))
    links = topology(whole)
    for device in devices:
        device["links"] = links.get(device["uuid"], {})
    return {"devices": devices, "problems": problems}


def describe(index: int, found: Found) -> dict[str, Any]:
    """Return the constant facts of a device. Raises NVMLError."""
    memory = asked(pynvml.nvmlDeviceGetMemoryInfo, found.handle)
    pci = asked(pynvml.nvmlDeviceGetPciInfo, found.gpu)
    bus_id = text(pci.busId) if pci is not None else None
    return {
        "uuid": found.uuid,
        "index": index,
        "name": text(pynvml.nvmlDeviceGetName(found.handle)),
        "memory_bytes": memory.total if memory is not None else 0,
        "numa_node": numa_node(bus_id) if bus_id else None,
        "cpus": nearest_cpus(found.gpu, bus_id),
        "pci_bus_id": bus_id,
        "mig": found.mig,
    }


def numa_node(bus_id: str, devices: str = PCI_DEVICES) -> int | None:
    """Return the NUMA node that is nearest to the GPU's slot, from the kernel. (NVML's own call returns the
    node that the GPU's memory is, which few machines have.)"""
    try:
        node = int(of_slot(bus_id, "numa_node", devices))
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


def nearest_cpus(gpu: Any, bus_id: str | None, devices: str = PCI_DEVICES) -> str | None:
    """Return the CPUs of the GPU's NUMA node, from the driver, else from the kernel."""
    cpus = optional(pynvml.nvmlDeviceGetCpuAffinity, gpu, (MAX_CPUS + 63) // 64)
    if cpus is not None:
        numbers = [64 * i + bit for i, word in enumerate(cpus) for bit in range(64) if word >> bit & 1]
        if numbers:
            return spans(numbers)
    try:
        return of_slot(bus_id or "", "local_cpulist", devices).strip() or None
    except (OSError, ValueError):
        return None


def of_slot(bus_id: str, name: str, devices: str) -> str:
    """Return a file of the kernel's about a PCI device. Raises OSError, ValueError."""
    domain, _, rest = bus_id.lower().partition(":")
    with open(f"{devices}/{int(domain, 16):04x}:{rest}/{name}") as file:  # noqa: PTH123
        return file.read()


def spans(numbers: list[int]) -> str:
    """Return ascending numbers as the kernel writes them.

    >>> spans([0, 1, 2, 5, 8, 9])
    '0-2,5,8-9'
    """
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


class Port(NamedTuple):
    """A whole GPU, as its links see it."""

    uuid: str
    handle: Any
    bus_id: str | None


def topology(gpus: list[Port]) -> dict[str, dict[str, str]]:
    """Return the link of each GPU to each other one, by UUID: NV4 for four NVLinks, direct or through
    switches, else the level of the PCI bus. Pairs without an answer of the driver are left out. Slices have
    no links: the driver gives them no peers."""
    straight = {port.uuid: nvlinks(port.handle) for port in gpus} if len(gpus) > 1 else {}
    links: dict[str, dict[str, str]] = {port.uuid: {} for port in gpus}
    for one in gpus:
        for other in gpus:
            if one.uuid == other.uuid:
                continue
            count = straight[one.uuid].get((other.bus_id or "").lower(), 0)
            count += min(straight[one.uuid].get(SWITCH, 0), straight[other.uuid].get(SWITCH, 0))
            if count:
                links[one.uuid][other.uuid] = f"NV{count}"
                continue
            level = optional(pynvml.nvmlDeviceGetTopologyCommonAncestor, one.handle, other.handle)
            if level in LEVELS:
                links[one.uuid][other.uuid] = LEVELS[level]
    return links


def nvlinks(gpu: Any) -> dict[str, int]:
    """Return the number of active NVLinks of a GPU by their other end: a GPU, by its bus id in small letters,
    or SWITCH."""
    ends: dict[str, int] = {}
    for link in range(pynvml.NVML_NVLINK_MAX_LINKS):
        if not optional(pynvml.nvmlDeviceGetNvLinkState, gpu, link):
            continue
        if (
            optional(pynvml.nvmlDeviceGetNvLinkRemoteDeviceType, gpu, link)
            == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH
        ):
            end = SWITCH
        else:
            pci = optional(pynvml.nvmlDeviceGetNvLinkRemotePciInfo, gpu, link)
            if pci is None:
                continue
            end = text(pci.busId).lower()
        ends[end] = ends.get(end, 0) + 1
    return ends


def sample_devices() -> dict[str, Any]:
    """Return a sample of every device; one that fails has an `error`."""
    samples = []
    for found in walk():
        if isinstance(found, Found):
            samples.append(sample(found))
        else:
            samples += [{"uuid": u, "sampled_at": time.time(), "error": found.error} for u in found.uuids]
    return {"samples": samples}


def sample(found: Found) -> dict[str, Any]:
    """Return a sample of one device. Power, temperature and energy are those of the whole GPU; a slice has no
    load figure."""
    read = Reading()
    memory = read(pynvml.nvmlDeviceGetMemoryInfo, found.handle)
    load = None if found.mig else read(pynvml.nvmlDeviceGetUtilizationRates, found.gpu)
    milliwatts = read(pynvml.nvmlDeviceGetPowerUsage, found.gpu)
    millijoules = read(pynvml.nvmlDeviceGetTotalEnergyConsumption, found.gpu)
    temperature = read(pynvml.nvmlDeviceGetTemperature, found.gpu, pynvml.NVML_TEMPERATURE_GPU)
    processes = read(pynvml.nvmlDeviceGetComputeRunningProcesses, found.handle) or []
    return {
        "uuid": found.uuid,
        "sampled_at": time.time(),
        "memory_used_bytes": memory.used if memory is not None else None,
        "utilization": load.gpu / 100 if load is not None else None,
        "temperature_c": temperature,
        "power_w": milliwatts / 1000 if milliwatts is not None else None,
        "energy_j": millijoules / 1000 if millijoules is not None else None,
        "processes": [
            {"pid": one.pid, "memory_bytes": one.usedGpuMemory, "name": name_of(one.pid)} for one in processes
        ],
        "error": read.error,
    }


def name_of(pid: int) -> str | None:
    """Return the name of a process; None when it is gone."""
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return None


def words(error: Exception) -> str:
    """Return the driver's error in words that the scheduler knows."""
    if isinstance(error, pynvml.NVMLError_GpuIsLost):
        return "GPU is lost: it has fallen off the bus"
    if isinstance(error, pynvml.NVMLError_ResetRequired):
        return "GPU requires a reset"
    if isinstance(error, pynvml.NVMLError_LibRmVersionMismatch):
        return "the driver and its library are of different versions: was one updated without a reboot?"
    return f"the driver says: {error}"


class Driver:
    """The driver's library, loaded at the first question."""

    def __init__(self) -> None:
        self._ready = False

    def answer(self, call: str) -> dict[str, Any]:
        """Return the answer to a question; an error is an answer too."""
        try:
            if not self._ready:
                load_library()
                pynvml.nvmlInit()
                self._ready = True
            return list_devices() if call == "list" else sample_devices()
        except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded) as error:
            return {"error": f"no NVIDIA driver found ({error})", "missing": True}
        except pynvml.NVMLError as error:
            return {"error": words(error)}
        except Exception as error:  # whatever the bindings raise: the daemon shall read it, not guess
            return {"error": f"the driver cannot be asked: {type(error).__name__}: {error}"}


def load_library() -> None:
    """Point the bindings at another library, if one is named. Raises NVMLError_LibraryNotFound."""
    path = os.environ.get(LIBRARY)
    if path:
        try:
            pynvml.nvmlLib = ctypes.CDLL(path)
        except OSError as error:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND) from error


def own_output() -> TextIO:
    """Return standard output for the answers alone: what a library prints goes to standard error."""
    mine = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return mine


def main() -> None:
    """Answer until the input ends."""
    # A driver call that hangs does not see the end of the input: let the daemon's death end it.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    output, driver = own_output(), Driver()
    for line in sys.stdin:
        request = json.loads(line)
        json.dump({"id": request["id"]} | driver.answer(request["call"]), output)
        output.write("\n")
        output.flush()


if __name__ == "__main__":
    main()
