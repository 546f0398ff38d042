"""CPU time of a decision: the pure planner at 1,000 queued jobs, and the whole pass over the database as the
queue grows deep.

    python -m tests.benchmarks.planning [--depths 1000,100000,1000000]
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from leptond.base.paths import data_dir
from leptond.core.jobs.model import Gpu
from leptond.core.scheduling.order_keys import order_keys
from leptond.core.scheduling.planner import PlanInput, Policy, Running, Waiting, plan
from leptond.core.scheduling.policies import POLICIES
from leptond.store.database.migrate import migrate
from leptond.store.planning import snapshot
from leptond.store.queue import gpus

NOW = 2_000_000_000.0
LIMITS = (600.0, 3600.0, 14400.0, 172800.0)


def timed(call: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Mean and 95th percentile of `call`, in ms of CPU time: clock time tells of the neighbours."""
    took = []
    for _ in range(rounds):
        begin = time.process_time()
        call()
        took.append((time.process_time() - begin) * 1000)
    return statistics.mean(took), sorted(took)[int(0.95 * len(took))]


def world(
    count: int, policy: Policy, *, soft: float, full: bool
) -> tuple[list[Waiting], list[Running], list[Gpu]]:
    """A queue of `count` jobs on eight GPUs, of which all (`full`) or all but one are held."""
    rng = random.Random(1)
    waiting = []
    for number in range(100, 100 + count):
        job = Waiting(
            id=number,
            priority=rng.choice((0, 0, 0, 1)),
            gpus=rng.choice((1, 1, 1, 2, 4, 8)),
            since=NOW - rng.uniform(0, 864000),
            preemptible=rng.random() < soft,
            limit_s=rng.choice(LIMITS),
        )
        waiting.append(msgspec.structs.replace(job, order_keys=order_keys(job, policy)))
    devices = [Gpu(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=1) for i in range(8)]
    running = [
        Running(
            id=i + 1,
            gpus=[f"GPU-{i}"],
            started_at=NOW - 9000,
            since=NOW - 1e6,
            preemptible=i < 8 * soft,
            limit_s=172800.0,
            attained_gpu_s=9000.0,
        )
        for i in range(8 if full else 7)
    ]
    return waiting, running, devices


def fill(db: sqlite3.Connection, count: int) -> None:
    """`count` pending jobs."""
    rng = random.Random(2)
    policy = Policy()
    rows = []
    for number in range(count):
        job = Waiting(
            id=number,
            priority=0,
            gpus=rng.choice((1, 2, 4, 8)),
            since=NOW - count + number,
            preemptible=rng.random() < 0.5,
            limit_s=rng.choice(LIMITS),
        )
        rows.append((job.gpus, job.limit_s, job.since, int(job.preemptible), *order_keys(job, policy)))
    db.execute("BEGIN")
    db.executemany(
        "INSERT INTO jobs (spec, name, user, gpus, time_limit_s, submitted_at, preemptible, order_at, lane,"
        " due_at, alone_at, short_s, signature) VALUES ('{}', 'x', 'ana', ?, ?, ?, ?, ?, ?, ?, ?, ?, 's')",
        rows,
    )
    db.execute("COMMIT")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--depths", default="1000,10000,100000,1000000")
    parser.add_argument("--rounds", type=int, default=200)
    args = parser.parse_args()
    print("the pure planner, 1,000 queued, CPU ms a call (mean, p95)")
    for name in POLICIES:
        policy = Policy(name=name)
        figures = []
        for soft, full in ((0.0, True), (0.0, False), (0.5, True), (1.0, True)):
            waiting, running, devices = world(1000, policy, soft=soft, full=full)
            inputs = PlanInput(
                waiting=waiting, running=running, gpus=devices, cpu_slots=4, now=NOW, policy=policy
            )
            mean, high = timed(lambda given=inputs: plan(given, explain=False), args.rounds)
            state = f"{'full' if full else '1 free'}, {soft:.0%} preemptible"
            figures.append(f"{state}: {mean:.3f} {high:.3f}")
        print(f"  {name:11}" + "; ".join(figures), flush=True)
    print("the look at the database (SQL and planner), one GPU free of eight, CPU ms a decision (mean, p95)")
    with tempfile.TemporaryDirectory(prefix="leptond-bench-") as place:
        db = sqlite3.connect(Path(place) / "q.db", isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        migrate(db, data_dir("migrations"))
        found = [
            gpus.Found(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=1, simulated=True) for i in range(8)
        ]
        gpus.sync(db, found, NOW)
        have = 0
        for depth in map(int, args.depths.split(",")):
            fill(db, depth - have)
            have = depth
            for name in ("auto", "firstfit"):
                mean, high = timed(
                    lambda n=name: snapshot.decide(
                        db, now=NOW, boot=1e9, unhealthy={}, cpu_slots=4, policy=Policy(name=n)
                    ),
                    max(20, args.rounds // 4),
                )
                print(f"  {depth:>9,} queued, {name:9} {mean:7.2f} {high:7.2f}", flush=True)


if __name__ == "__main__":
    main()
