"""The start of a shim: from the request to the shim's word that it is ready."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from leptond.base.clock import kernel_boot_id
from leptond.engines import procs
from leptond.engines.shim_pool import ShimPool
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import row
from tests.benchmarks.jobs import p50, spawn
from tests.benchmarks.rows import Row

SHIMS = 30
PAUSE_S = 0.1
"""Between two shims: what is done in advance has its time, as it has on a daemon that is not in a hurry."""


def run(bench: Bench) -> list[Row]:
    """Forked from the prepared process, and with an interpreter of its own; the floor is a bare spawn."""
    floor, forked, cold = [], [], []
    for _, here in bench.rounds():
        begin = time.perf_counter()
        for _ in range(SHIMS):
            spawn(["/bin/true"])
        floor.append((time.perf_counter() - begin) * 1000 / SHIMS)
        for prefork, times in ((True, forked), (False, cold)):
            place = here / f"prefork-{prefork}"
            place.mkdir()
            times.append(asyncio.run(_ready(place, prefork=prefork)))
    note = f"with an interpreter of its own {p50(cold):.1f} ms (median)"
    return [row("shim", bench.load, forked, floor=floor, note=note)]


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
