"""Machines with GPUs whose state a test decides, one for each backend."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest

from leptond.gpus.base import GpuBackend
from leptond.gpus.helper import Times
from leptond.gpus.nvml import NvmlBackend
from leptond.gpus.simulated import SimulatedBackend

GIB = 1024**3
PATIENT = Times(answer_s=60.0, start_s=60.0, restart_s=0.05, restart_max_s=0.2)
QUICK = msgspec.structs.replace(PATIENT, answer_s=0.5)
"""For tests in which the driver hangs."""


FIGURES: dict[str, tuple[str, Callable[[float], float]]] = {
    "memory_used_bytes": ("used", lambda value: value),
    "utilization": ("load", lambda value: value * 100),
    "temperature_c": ("temperature", lambda value: value),
    "power_w": ("power", lambda value: value * 1000),
    "energy_j": ("energy", lambda value: value * 1000),
}


class World(Protocol):
    """Two GPUs, and what happens to them. `figures` are named as in Sample; a process is (pid, bytes)."""

    def backend(self, times: Times = ...) -> GpuBackend: ...

    def set(self, index: int, *, processes: list[tuple[int, int]] = ..., **figures: float) -> None: ...

    def fail(self, index: int) -> None: ...

    def remove_last(self) -> None: ...

    def bring_last(self) -> None: ...

    def hang(self, hangs: bool) -> None: ...


def replace(path: Path, content: str) -> None:
    """Writes a file that may be read at any moment."""
    new = path.with_suffix(".new")
    new.write_text(content)
    new.replace(path)


class SimulatedWorld:
    """Simulated devices and their state file."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "state.json"
        self._state: dict[str, Any] = {"devices": {"0": {}, "1": {}}, "hang": False}

    def backend(self, times: Times = PATIENT) -> GpuBackend:
        self._write()
        return SimulatedBackend(2, self._file)

    def set(self, index: int, *, processes: list[tuple[int, int]] | None = None, **figures: float) -> None:
        if processes is not None:
            figures |= {"processes": [{"pid": pid, "memory_bytes": size} for pid, size in processes]}  # type: ignore[dict-item]
        self._state["devices"][str(index)] |= figures
        self._write()

    def fail(self, index: int) -> None:
        self._state["devices"][str(index)]["error"] = "GPU is lost"
        self._write()

    def remove_last(self) -> None:
        self._state["devices"]["1"]["missing"] = True
        self._write()

    def bring_last(self) -> None:
        self._state["devices"]["1"]["missing"] = False
        self._write()

    def hang(self, hangs: bool) -> None:
        self._state["hang"] = hangs
        self._write()

    def _write(self) -> None:
        replace(self._file, msgspec.json.encode(self._state).decode())


class NvmlWorld:
    """The helper, pynvml and a library that plays the driver; `lines` is its state (see fake_nvml.c)."""

    def __init__(self, directory: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file = directory / "driver.state"
        self.hung_mark = directory / "driver.state.hung"
        self.notes: list[str] = []
        self.lines: dict[str, object] = {"count": 2}
        for index in range(2):
            self.lines |= {
                f"gpu{index}.uuid": f"GPU-0000000{index}-aaaa-bbbb-cccc-dddddddddddd",
                f"gpu{index}.name": "NVIDIA Test 24GB",
                f"gpu{index}.bus": f"00000000:0{index + 1}:00.0",
                f"gpu{index}.memory": 24 * GIB,
                f"gpu{index}.used": 0,
            }
        self.write()
        monkeypatch.setenv("LEPTOND_NVML_LIBRARY", str(library))
        monkeypatch.setenv("FAKE_NVML_STATE", str(self._file))

    def backend(self, times: Times = PATIENT, optional: bool = False) -> NvmlBackend:
        return NvmlBackend(optional=optional, times=times, on_note=self.notes.append)

    def set(self, index: int, *, processes: list[tuple[int, int]] | None = None, **figures: float) -> None:
        for name, value in figures.items():
            key, convert = FIGURES[name]
            self.lines[f"gpu{index}.{key}"] = round(convert(value))
        for number, (pid, size) in enumerate(processes or []):
            self.lines[f"gpu{index}.process{number}"] = f"{pid},{size}"
        self.write()

    def fail(self, index: int) -> None:
        self.change({f"gpu{index}.error": 15})

    def remove_last(self) -> None:
        self.change({"count": 1})

    def bring_last(self) -> None:
        self.change({"count": 2})

    def hang(self, hangs: bool) -> None:
        self.change({"hang": "nvmlDeviceGetMemoryInfo" if hangs else ""})

    def change(self, lines: dict[str, object]) -> None:
        self.lines |= lines
        self.write()

    def write(self) -> None:
        replace(self._file, "".join(f"{key}={value}\n" for key, value in self.lines.items()))


def build_library(directory: Path) -> Path:
    """Compiles the library that plays the driver; skips the test where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    library = directory / "libnvidia-ml.so.1"
    source = Path(__file__).with_name("fake_nvml.c")
    subprocess.run(
        [compiler, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(source)],
        check=True,
        timeout=60,
    )
    return library
