from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import pytest

from leptond.gpus.base import GpuBackend
from tests.unit.gpus.worlds import NvmlWorld, SimulatedWorld, World, build_library

B = TypeVar("B", bound=GpuBackend)


class Closing:
    """Remembers what is to be closed."""

    def __init__(self, backends: list[GpuBackend]) -> None:
        self._backends = backends

    def __call__(self, backend: B) -> B:
        self._backends.append(backend)
        return backend


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> NvmlWorld:
    return NvmlWorld(tmp_path, library, monkeypatch)


@pytest.fixture(params=["simulated", "nvml"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "simulated":
        return SimulatedWorld(tmp_path)
    nvml: NvmlWorld = request.getfixturevalue("nvml")
    return nvml


@pytest.fixture
async def closing() -> AsyncIterator[Closing]:
    """Closes at the end what is handed to it."""
    backends: list[GpuBackend] = []

    yield Closing(backends)
    for backend in backends:
        await backend.close()
