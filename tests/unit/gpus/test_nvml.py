"""The real path to the driver (helper, pynvml) over a library that plays it."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from leptond.config import GpuSettings
from leptond.gpus import nvml_helper, open_backend
from leptond.gpus.base import GpuBackendError
from leptond.gpus.helper import Times
from leptond.gpus.nvml import NvmlBackend
from tests.unit.gpus.conftest import Closing
from tests.unit.gpus.worlds import GIB, QUICK, NvmlWorld


async def test_a_figure_that_the_driver_does_not_tell_is_none(nvml: NvmlWorld, closing: Closing) -> None:
    nvml.set(0, temperature_c=50, power_w=100)
    nvml.change({"gpu0.error.nvmlDeviceGetTemperature": 3, "gpu0.process0": "1"})
    backend = closing(nvml.backend())
    await backend.open()
    sample = (await backend.sample())[0]
    assert (sample.temperature_c, sample.power_w, sample.error) == (None, 100, None)
    assert [(process.pid, process.memory_bytes) for process in sample.processes] == [(1, None)]


async def test_a_call_that_fails_leaves_the_other_figures(nvml: NvmlWorld, closing: Closing) -> None:
    nvml.set(0, memory_used_bytes=GIB, temperature_c=50, power_w=100)
    nvml.change({"gpu0.error.nvmlDeviceGetPowerUsage": 999})
    backend = closing(nvml.backend())
    await backend.open()
    sample = (await backend.sample())[0]
    assert (sample.memory_used_bytes, sample.temperature_c, sample.power_w) == (GIB, 50, None)
    assert sample.error == "the driver says: Unknown Error"


@pytest.mark.parametrize(("code", "word"), [(15, "lost"), (16, "reset")])
async def test_lost_and_reset_are_called_by_name(
    nvml: NvmlWorld, closing: Closing, code: int, word: str
) -> None:
    nvml.set(0, temperature_c=50)
    backend = closing(nvml.backend())
    await backend.open()
    nvml.change({"gpu0.error.nvmlDeviceGetPowerUsage": code})
    assert word in ((await backend.sample())[0].error or "")


async def test_that_a_gpu_is_lost_outweighs_what_failed_before(nvml: NvmlWorld, closing: Closing) -> None:
    nvml.set(0, temperature_c=50, power_w=100)
    backend = closing(nvml.backend())
    await backend.open()
    nvml.change({"gpu0.error.nvmlDeviceGetMemoryInfo": 999, "gpu0.error.nvmlDeviceGetPowerUsage": 15})
    sample = (await backend.sample())[0]
    assert "lost" in (sample.error or "")
    assert sample.temperature_c is None  # it is not asked any more


async def test_a_gpu_lost_before_the_start_is_named_in_the_note(nvml: NvmlWorld, closing: Closing) -> None:
    nvml.change({"gpu0.error": 15})
    backend = closing(nvml.backend())
    assert [device.index for device in await backend.open()] == [1]
    assert "GPU 0 cannot be used: GPU is lost" in (backend.note or "")
    assert nvml.notes == [backend.note]


async def test_processes_are_named_as_the_kernel_names_them(nvml: NvmlWorld, closing: Closing) -> None:
    nvml.set(0, processes=[(os.getpid(), 1)])
    backend = closing(nvml.backend())
    await backend.open()
    name = psutil.Process().name()
    assert [process.name for process in (await backend.sample())[0].processes] == [name]


async def test_slices_are_devices_of_their_own(nvml: NvmlWorld, closing: Closing) -> None:
    nvml.set(0, temperature_c=50, utilization=0.9)
    nvml.change({"gpu0.mig": 1, "gpu0.slices": 2, "gpu1.mig": 0})
    for slot in range(2):
        nvml.change(
            {
                f"gpu0.slice{slot}.uuid": f"MIG-0000000{slot}",
                f"gpu0.slice{slot}.name": "NVIDIA Test MIG 1g.5gb",
                f"gpu0.slice{slot}.memory": 5 * GIB,
                f"gpu0.slice{slot}.used": slot * GIB,
            }
        )
    nvml.change({"gpu0.slice1.process0": f"77,{GIB}"})
    backend = closing(nvml.backend())
    devices = await backend.open()
    assert [(device.index, device.uuid, device.mig, device.memory_bytes) for device in devices[:2]] == [
        (0, "MIG-00000000", True, 5 * GIB),
        (1, "MIG-00000001", True, 5 * GIB),
    ]
    assert (devices[2].index, devices[2].mig) == (2, False)
    assert [device.pci_bus_id for device in devices] == ["00000000:01:00.0"] * 2 + ["00000000:02:00.0"]
    samples = await backend.sample()
    assert [sample.memory_used_bytes for sample in samples] == [0, GIB, 0]
    assert [len(sample.processes) for sample in samples] == [0, 1, 0]
    assert [sample.temperature_c for sample in samples] == [50, 50, None]
    assert samples[0].utilization is None  # the load of the whole GPU would be a lie
    nvml.change({"gpu0.error": 15})
    assert ["lost" in (sample.error or "") for sample in await backend.sample()] == [True, True, False]


async def test_mig_mode_without_slices_is_said(nvml: NvmlWorld, closing: Closing) -> None:
    nvml.change({"gpu0.mig": 1, "gpu0.slices": 0})
    backend = closing(nvml.backend())
    assert len(await backend.open()) == 1
    assert "no slices" in (backend.note or "")


async def test_a_driver_without_gpus_is_said(nvml: NvmlWorld, closing: Closing) -> None:
    nvml.change({"count": 0})
    backend = closing(nvml.backend())
    assert await backend.open() == []
    assert "shows no GPU" in (backend.note or "")
    assert await backend.sample() == []


async def test_what_a_library_prints_does_not_disturb(nvml: NvmlWorld, closing: Closing) -> None:
    nvml.change({"chatter": 1})
    assert len(await closing(nvml.backend()).open()) == 2


@pytest.mark.parametrize("state", [{}, {"error.nvmlInitWithFlags": 9}, {"error.nvmlInitWithFlags": 12}])
async def test_a_missing_driver_is_no_error_where_gpus_are_optional(
    nvml: NvmlWorld, closing: Closing, monkeypatch: pytest.MonkeyPatch, state: dict[str, object]
) -> None:
    nvml.change(state)
    if not state:
        monkeypatch.setenv("LEPTOND_NVML_LIBRARY", "/nowhere/libnvidia-ml.so.1")
    backend = closing(nvml.backend(optional=True))
    assert (await backend.open(), await backend.sample()) == ([], [])
    assert backend.note == "no NVIDIA driver found: jobs run without GPUs"
    with pytest.raises(GpuBackendError, match="no NVIDIA driver found"):
        await closing(nvml.backend(optional=False)).open()


async def test_a_driver_that_does_not_fit_its_library_is_an_error(nvml: NvmlWorld, closing: Closing) -> None:
    nvml.change({"error.nvmlInitWithFlags": 18})
    backend = closing(nvml.backend(optional=True))
    with pytest.raises(GpuBackendError, match="different versions"):
        await backend.open()
    assert "different versions" in (backend.note or "")
    nvml.change({"error.nvmlInitWithFlags": 0})
    assert len(await backend.open()) == 2
    assert backend.note is None


async def test_a_driver_that_hangs_at_the_start_is_an_error_and_can_be_tried_again(
    nvml: NvmlWorld, closing: Closing
) -> None:
    nvml.change({"hang": "nvmlInitWithFlags"})
    backend = closing(nvml.backend(Times(start_s=1.0, restart_s=0.0)))
    with pytest.raises(GpuBackendError, match="did not answer within 1 s"):
        await backend.open()
    assert "does not answer" in (backend.note or "")
    nvml.hang(False)
    while True:  # a slow machine may need more than one try within this deadline
        try:
            assert len(await backend.open()) == 2
            break
        except GpuBackendError:
            await asyncio.sleep(0.02)
    assert backend.note is None


async def test_while_the_driver_hangs_the_note_says_so_and_a_new_helper_takes_over(
    nvml: NvmlWorld, closing: Closing
) -> None:
    backend = closing(nvml.backend(QUICK))
    await backend.open()
    nvml.hang(True)
    assert "did not answer within 0.5 s" in ((await backend.sample())[0].error or "")
    assert "does not answer" in (backend.note or "")
    nvml.hang(False)
    while (await backend.sample())[0].error:
        await asyncio.sleep(0.02)
    assert backend.note is None
    assert "gave no answer" in nvml.notes[0]
    assert "answers again" in nvml.notes[-1]


async def test_a_driver_that_kills_the_helper_is_survived(nvml: NvmlWorld, closing: Closing) -> None:
    backend = closing(nvml.backend())
    await backend.open()
    nvml.change({"crash": "nvmlDeviceGetMemoryInfo"})
    assert "the helper ended with exit code 7" in ((await backend.sample())[0].error or "")
    nvml.change({"crash": ""})
    while (await backend.sample())[0].error:
        await asyncio.sleep(0.02)


async def test_nothing_in_the_daemons_directory_is_imported(
    nvml: NvmlWorld, closing: Closing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("pynvml", "json", "leptond"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert len(await closing(nvml.backend()).open()) == 2


def test_the_helper_imports_little() -> None:
    heavy = {"aiohttp", "structlog", "asyncio", "msgspec", "leptond"}
    script = f"import sys, nvml_helper; print(sorted({heavy!r} & set(sys.modules)))"
    directory = Path(nvml_helper.__file__).parent
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**os.environ, "PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "[]\n"


CHILD = """
import asyncio
from leptond.gpus.helper import Helper, Times
from leptond.gpus.nvml import HELPER

async def main():
    helper = Helper(HELPER, Times(answer_s=600), print)
    await helper.ask("list")
    print(helper.pid, flush=True)
    await helper.ask("sample")

asyncio.run(main())
"""


async def test_a_hanging_helper_does_not_outlive_a_killed_daemon(nvml: NvmlWorld) -> None:
    nvml.change({"hang": "nvmlDeviceGetTemperature"})
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, stdout=asyncio.subprocess.PIPE, env=os.environ
    )
    assert daemon.stdout is not None
    try:
        helper = psutil.Process(int(await daemon.stdout.readline()))
        while not nvml.hung_mark.exists():
            await asyncio.sleep(0.02)
    finally:
        daemon.send_signal(signal.SIGKILL)
        await daemon.wait()
    while helper.is_running() and helper.status() != psutil.STATUS_ZOMBIE:
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("content", "node"), [("1\n", 1), ("0\n", 0), ("-1\n", None), ("?", None), (None, None)]
)
def test_the_memory_node_is_what_the_kernel_says(
    tmp_path: Path, content: str | None, node: int | None
) -> None:
    if content is not None:
        (tmp_path / "0000:3b:00.0").mkdir()
        (tmp_path / "0000:3b:00.0" / "numa_node").write_text(content)
    assert nvml_helper.numa_node("00000000:3B:00.0", str(tmp_path)) == node


async def test_the_settings_choose_the_backend(nvml: NvmlWorld, closing: Closing) -> None:
    strict, auto = (closing(open_backend(GpuSettings(backend=kind))) for kind in ("nvml", "auto"))
    assert isinstance(strict, NvmlBackend)
    assert len(await auto.open()) == 2
    nvml.change({"error.nvmlInitWithFlags": 9})
    with pytest.raises(GpuBackendError):
        await strict.open()
    simulated = open_backend(GpuSettings(backend="simulated", simulate=3))
    assert [device.simulated for device in await simulated.open()] == [True] * 3
    nothing = open_backend(GpuSettings(backend="none"))
    assert (nothing.name, await nothing.open()) == ("none", [])
    assert nothing.note


async def test_links_are_named_as_nvidia_smi_names_them(nvml: NvmlWorld, closing: Closing) -> None:
    """GPUs 0 and 1 have two NVLinks between them, 1 and 2 the PCI bus, of 0 and 2 nothing is told."""
    uuids = [f"GPU-0000000{i}-aaaa-bbbb-cccc-dddddddddddd" for i in range(3)]
    nvml.change({"count": 3, "gpu2.uuid": uuids[2], "gpu2.name": "x", "gpu2.bus": "00000000:83:00.0"})
    nvml.change({"gpu0.link0": "gpu1", "gpu0.link5": "gpu1", "gpu1.link1": "gpu0", "gpu1.link2": "gpu0"})
    nvml.change({"gpu1.ancestor2": 40, "gpu2.ancestor1": 40, "gpu0.ancestor1": 50})
    devices = await closing(nvml.backend()).open()
    assert [device.links for device in devices] == [
        {uuids[1]: "NV2"},
        {uuids[0]: "NV2", uuids[2]: "NODE"},
        {uuids[1]: "NODE"},
    ]


async def test_links_through_switches_join_every_gpu_to_every_other(
    nvml: NvmlWorld, closing: Closing
) -> None:
    nvml.change(
        {f"gpu0.link{i}": "switch" for i in range(18)} | {f"gpu1.link{i}": "switch" for i in range(12)}
    )
    first, second = await closing(nvml.backend()).open()
    assert (first.links, second.links) == ({second.uuid: "NV12"}, {first.uuid: "NV12"})


async def test_trouble_with_the_topology_spoils_no_device(nvml: NvmlWorld, closing: Closing) -> None:
    nvml.change({f"error.nvmlDeviceGet{call}": 999 for call in ("NvLinkState", "TopologyCommonAncestor")})
    nvml.change({"error.nvmlDeviceGetCpuAffinity": 15})
    backend = closing(nvml.backend())
    assert [(device.links, device.cpus) for device in await backend.open()] == [({}, None)] * 2
    assert backend.note is None


async def test_the_cpus_near_a_gpu_come_from_the_driver_or_the_kernel(
    nvml: NvmlWorld, closing: Closing, tmp_path: Path
) -> None:
    nvml.change({"gpu0.affinity": 0b1_0000_1111})
    assert [device.cpus for device in await closing(nvml.backend()).open()] == ["0-3,8", None]
    (tmp_path / "0000:3b:00.0").mkdir()
    (tmp_path / "0000:3b:00.0" / "local_cpulist").write_text("0-15,32-47\n")
    assert nvml_helper.of_slot("00000000:3B:00.0", "local_cpulist", str(tmp_path)).strip() == "0-15,32-47"
