"""Promise 18: thousands of short jobs leave nothing behind in the daemon."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from tests.faults.campaign import Found, Outcome, campaign, run_trials
from tests.support.daemon import TERMINAL, Daemon, until

WARM_UP, ROUNDS = 60, 3
IDLE = 2 * 16
"""Descriptors of idle shims, which come and go: a pidfd and a gate each."""
CACHES = (16 + 8 + 8) << 20
"""What SQLite keeps of the database in memory for the three connections (store/connection.py). With caches of
a quarter of a MiB the memory stands still after the first thousand jobs."""
GROWTH = 20 << 20


@campaign("P18", title="Short jobs leave nothing behind", short=200, full=10_000)
def leaks(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is one job `true`; all of them run on one daemon."""
    return run_trials(lambda dice, place: many_jobs(dice, place, count=trials), 1, seed, workdir)


def many_jobs(dice: random.Random, place: Path, *, count: int, idle: int = 0) -> Found:
    """Descriptors, threads and children of the daemon are, after `count` jobs, what they were before. With
    `idle` descriptors more, which `count` has to exceed, nobody waits until shims have been idle for long."""
    daemon = Daemon(place / "s", "--simulate-gpus", "4", executed=True, env={"LEPTOND_QUEUE__CPU_SLOTS": "4"})
    daemon.start()
    try:
        rounds = []
        for _ in range(ROUNDS):
            run(daemon, WARM_UP // ROUNDS)
            rounds.append(held(daemon))
        # idle shims come and go: what it held at most is nothing that was left behind
        before = max_of(rounds)
        begin = time.monotonic()
        run(daemon, count)
        seconds = time.monotonic() - begin
        before = (before[0] + idle, *before[1:])
        # the last connection of ours is closed by the daemon when it has seen our end close
        after = until(lambda: (seen := held(daemon)) and same(before, seen) and seen, f"back to {before}")
    finally:
        daemon.close()
    assert after[3] - before[3] < GROWTH + CACHES, f"{(after[3] - before[3]) >> 20} MiB more"
    return Found(
        count=count,
        figures={
            "rss_growth_MiB": (after[3] - before[3]) / (1 << 20),
            "jobs_per_s": count / seconds,
            "descriptors": after[0],
            "threads": after[1],
            "children": after[2],
        },
    )


def max_of(rounds: list[tuple[int, int, int, int]]) -> tuple[int, int, int, int]:
    """The most of each."""
    descriptors, threads, children, memory = map(max, zip(*rounds, strict=True))
    return descriptors, threads, children, memory


def same(before: tuple[int, int, int, int], after: tuple[int, int, int, int]) -> bool:
    """Whether no descriptor and no child is left over. The daemon may have had a connection of ours more
    before; and the loop's pool starts its threads when it needs them, up to its size, and keeps them."""
    pool = min(32, (os.cpu_count() or 1) + 4)
    return after[0] <= before[0] and after[2] <= before[2] and after[1] <= before[1] + pool


def run(daemon: Daemon, count: int) -> None:
    """`count` jobs, and their end."""
    before = sum(daemon.get("/v1/status").json["counts"].values())
    for start in range(0, count, 500):
        some = min(500, count - start)
        spec = {"argv": ["true"], "gpus": 1}
        assert daemon.post("/v1/jobs:batch", {"jobs": [spec] * some}).status == 201
    deadline = time.monotonic() + 60 + count
    while True:
        counts = daemon.get("/v1/status").json["counts"]
        if sum(counts[state] for state in TERMINAL) == before + count:
            assert counts["succeeded"] == before + count, counts
            return
        assert time.monotonic() < deadline, counts
        time.sleep(0.2)


def held(daemon: Daemon) -> tuple[int, int, int, int]:
    """Descriptors, threads, children, and bytes of memory of the daemon."""
    assert daemon.process is not None
    pid = daemon.process.pid
    descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    status = Path(f"/proc/{pid}/status").read_text()
    fields = {line.split(":")[0]: line.split(":")[1].split() for line in status.splitlines() if ":" in line}
    children = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = Path(f"/proc/{entry.name}/stat").read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            children += int(stat[1]) == pid
    return descriptors, int(fields["Threads"][0]), children, int(fields["VmRSS"][0]) * 1024
