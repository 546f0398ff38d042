"""The start of a training: to the first line after `import torch`, and what a shim's start takes of it."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from leptond.base.clock import kernel_boot_id
from leptond.engines import procs
from leptond.engines.shim_pool import ShimPool
from tests.benchmarks.jobs import daemon, p50, spawn
from tests.benchmarks.rows import FLOOR, Row

SHIMS = 30
PAUSE_S = 0.1
"""Between two shims: what is done in advance has its time, as it has on a daemon that is not in a hurry."""
JOBS = 10
"""Warm starts in each run; of cold ones, one."""
PREPARE_S = 120.0
SCRIPT = """\
import torch
import time
print(time.time_ns() / 1e6, flush=True)
"""


def run(place: Path, runs: int) -> list[Row]:
    """From the submit of a job to its line, warm and cold, on an idle daemon; then to READY of a shim."""
    return [*_training(place, runs), *_shims(place, runs)]


def _training(place: Path, runs: int) -> list[Row]:
    figure = "first line after import torch, times faster warm than cold"
    common = {"unit": "x", "bar": 50.0, "stretch": 120.0, "better": "higher"}
    if find_spec("torch") is None:
        return [Row(figure=figure, leptond=(), note="torch is not installed", **common)]
    script = place / "train.py"
    script.write_text(SCRIPT)
    cold, warm, floor = [], [], []
    with daemon(place / "daemon", LEPTOND_ENGINE__WARM="true") as one:

        def line(**more: object) -> tuple[float, str]:
            """Milliseconds from the submit, and how it started."""
            asked = time.time_ns() / 1e6
            job = one.submit(sys.executable, str(script), gpus=1, **more)
            ended = one.finished(job)
            assert ended["state"] == "succeeded", one.output(job)
            return float(one.output(job)) - asked, ended["attempts"][-1]["start"]

        until = time.monotonic() + PREPARE_S
        while line()[1] != "warm":
            assert time.monotonic() < until, "no warm process gets ready"
        for _ in range(runs):
            begin = time.time_ns() / 1e6
            read, write = os.pipe()
            spawn_to(write, [sys.executable, str(script)])
            floor.append(float(os.read(read, 100)) - begin)
            os.close(read)
            cold.append(line(cold=True)[0])
            found = [line() for _ in range(JOBS)]
            assert {start for _, start in found} == {"warm"}
            warm.append(p50([ms for ms, _ in found]))
    medians = f"warm {p50(warm):.1f} ms, cold {p50(cold):.0f} ms, by hand {p50(floor):.0f} ms"
    said = f"medians from the submit: {medians}"
    ratio = tuple(slow / quick for slow, quick in zip(cold, warm, strict=True))
    return [Row(figure=figure, leptond=ratio, note=said, **common)]


def spawn_to(write: int, argv: list[str]) -> None:
    """Runs a program to its end with its output in the pipe `write`, which is closed."""
    actions = [(os.POSIX_SPAWN_DUP2, write, 1)]
    os.waitpid(os.posix_spawn(argv[0], argv, os.environ, file_actions=actions), 0)
    os.close(write)


def _shims(place: Path, runs: int) -> list[Row]:
    floor, forked, cold = [], [], []
    for number in range(runs):
        begin = time.perf_counter()
        for _ in range(SHIMS):
            spawn(["/bin/true"])
        floor.append((time.perf_counter() - begin) * 1000 / SHIMS)
        for prefork, times in ((True, forked), (False, cold)):
            here = place / f"shims-{number}-{prefork}"
            here.mkdir()
            times.append(asyncio.run(_ready(here, prefork=prefork)))
    return [
        Row(
            figure="a shim to READY, / a bare spawn",
            unit="ms",
            leptond=tuple(forked),
            floor=tuple(floor),
            against=FLOOR,
            note=f"with an interpreter of its own {p50(cold):.1f} ms (median)",
        )
    ]


async def _ready(place: Path, *, prefork: bool) -> float:
    """Milliseconds, the p50, from the request to the shim's word that it is ready."""
    pool = ShimPool("/usr/bin:/bin", prefork=prefork)
    pool.open()
    while prefork and pool.zygote is None:
        await asyncio.sleep(0.01)
    found = []
    for number in range(SHIMS):
        directory = place / str(number)
        directory.mkdir()
        told = {
            "attempt_id": "a1",
            "boot_id": kernel_boot_id(),
            "standby": str(directory),
            "directory": str(directory / "job" / "1"),
            "log_max_bytes": 65536,
            "argv": ["/bin/true"],
            "env": {},
            "cgroup": "",
            "tag": 1,
            "umask": 0o22,
            "claim": {},
        }
        await asyncio.sleep(PAUSE_S)
        begin = time.perf_counter()
        shim = await pool.acquire("a1", told, directory / "shim.log")
        word = await asyncio.get_running_loop().sock_recv(shim.gate.connection, 100)
        found.append((time.perf_counter() - begin) * 1000)
        assert word.startswith(b"READY"), word
        shim.gate.close()
        await procs.ended(shim.pidfd)
        os.close(shim.pidfd)
    pool.close()
    await asyncio.sleep(0)
    return p50(found)
