"""Cost of an idle daemon: memory, and how often it wakes."""

from __future__ import annotations

import time
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import RESTING, ROUND, ROUNDS, row
from tests.benchmarks.jobs import NOOP, daemon, ended, resident_mb, submit_many
from tests.benchmarks.rows import Row
from tests.support.daemon import Daemon

SETTLE_S = 3.0
WATCH_S = 30.0


def run(bench: Bench) -> list[Row]:
    """Memory of an idle daemon, and how it grows with jobs that come and go; then, with jobs that run, how
    often its threads are woken, outside of the sampling of GPUs (which is made rare for it), and how often a
    shim is. Each run watches half a minute."""
    idle, helpers, grown, woken, shims = [], [], [], [], []
    for _, here in bench.rounds():
        with daemon(here, gpus=RESTING, LEPTOND_GPUS__SAMPLE_S="3600") as one:
            assert one.process is not None
            pid = one.process.pid
            time.sleep(SETTLE_S)
            idle.append(resident_mb(pid))
            helpers.append(sum(map(resident_mb, children(pid))))
            jobs = submit_many(one, [{"argv": ["sleep", "600"], "gpus": 1}] * RESTING)
            for job in jobs:
                one.reached(job, "running")
            time.sleep(SETTLE_S)
            watched = [pid, *(_shim(one, job) for job in jobs)]
            before = [switches(each) for each in watched]
            begin = time.monotonic()
            time.sleep(WATCH_S)
            seconds = time.monotonic() - begin
            rates = [(switches(each) - old) / seconds for each, old in zip(watched, before, strict=True)]
            woken.append(rates[0])
            shims.append(max(rates[1:]))
        with daemon(here / "busy", LEPTOND_QUEUE__CPU_SLOTS="4") as one:
            grown.append(_growth(one))
    full = "SQLite's page caches fill with the database, up to 32 MiB; the rest stays as it is"
    return [
        row("memory", bench.load, idle),
        row("memory_helpers", bench.load, helpers),
        row("wakes", bench.load, woken),
        row("wakes_shim", bench.load, shims),
        row("growth", bench.load, grown, note=full),
    ]


def _growth(one: Daemon) -> float:
    """By how many MB the daemon grows over jobs that are worked off, once it has seen some."""
    assert one.process is not None
    seen = []
    for _ in range(ROUNDS + 1):
        ids = submit_many(one, [{"argv": NOOP}] * ROUND)
        for job in ids[-4:]:
            ended(one, job)
        seen.append(resident_mb(one.process.pid))
    return seen[-1] - seen[0]


def _shim(one: Daemon, job: int) -> int:
    found = one.job(job)["attempts"][-1]
    return int(Path(f"/proc/{found['pid']}/stat").read_text().rpartition(")")[2].split()[1])


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for file in found for word in file.read_text().split()]


def switches(pid: int) -> int:
    """How often the threads of a process have gone to sleep of themselves, which is how often they woke."""
    count = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for line in (thread / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                count += int(line.split()[1])
    return count
