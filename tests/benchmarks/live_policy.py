"""The planner live against the planner simulated: sleeping jobs on eight simulated GPUs, time scaled down.

    python -m tests.benchmarks.live_policy --trace trace.csv [--jobs 200] [--scale 1000] [--load 1.0]

The first jobs of a trace (job_id, user, submit_s, gpus, duration_s, estimate_s) are submitted to a real
daemon at their times divided by the scale, and so are the planner's figures. The same jobs, with the submit
times that the daemon recorded and the start-up that was measured, then go through the same planner in a loop
over events. Prints both mean completion times; leaves with 1 when they differ by more than 5%.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import os
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import msgspec

from leptond.core.jobs.model import Gpu
from leptond.core.scheduling.planner import CarriedState, PlanInput, Policy, Running, Waiting, plan
from tests.support.daemon import TERMINAL, Daemon

GPUS = 8
TIMES = (
    "priority_step_s",
    "class_gpu_s",
    "min_run_s",
    "eviction_cost_s",
    "overdue_s",
    "overdue_max_s",
    "overdue_batch_s",
)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A job, in scaled seconds."""

    submit_s: float
    gpus: int
    duration_s: float
    limit_s: float


def read(trace: Path, count: int, scale: float, load: float) -> list[Asked]:
    """The first jobs of a trace."""
    with trace.open(newline="") as file:
        rows = list(csv.DictReader(file))[:count]
    first = float(rows[0]["submit_s"])
    return [
        Asked(
            submit_s=(float(row["submit_s"]) - first) / load / scale,
            gpus=int(row["gpus"]),
            duration_s=max(0.01, float(row["duration_s"]) / scale),
            # room for the start-up, so that no limit ends a job
            limit_s=float(row["estimate_s"] or 172800) / scale + 30.0,
        )
        for row in rows
    ]


def word(number: int) -> str:
    """A word of its own for every number, without digits: each job is a command of its own."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def live(jobs: list[Asked], policy: Policy, directory: Path) -> tuple[list[tuple[float, float]], float]:
    """(submitted, ended) of each job on a real daemon, and the mean time that a start and an end take."""
    env = {
        f"LEPTOND_PLANNER__{name.upper()}": str(getattr(policy, name)) for name in (*TIMES, "unknown_run_s")
    }
    env["LEPTOND_QUEUE__POLICY"] = policy.name
    daemon = Daemon(directory / "s", "--simulate-gpus", str(GPUS), env=env, executed=True)
    daemon.start()
    try:
        begin = time.monotonic()
        numbers = []
        for index, job in enumerate(jobs):
            time.sleep(max(0.0, begin + job.submit_s - time.monotonic()))
            argv = ("sh", "-c", f"exec sleep {job.duration_s:.4f}", word(index))
            numbers.append(daemon.submit(*argv, gpus=job.gpus, time_limit_s=job.limit_s))
        ended, overheads = [], []
        for number, job in zip(numbers, jobs, strict=True):
            done = daemon.job(number)
            while done["state"] not in TERMINAL:
                done = daemon.get(f"/v1/jobs/{number}?wait_s=20").json
            assert done["state"] == "succeeded", done
            attempt = done["attempts"][0]
            ended.append((_seconds(done["submitted_at"]), _seconds(done["ended_at"])))
            overheads.append(_seconds(done["ended_at"]) - _seconds(attempt["claimed_at"]) - job.duration_s)
        return ended, statistics.mean(overheads)
    finally:
        daemon.close()


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def simulated(jobs: list[Asked], submitted: list[float], policy: Policy, overhead_s: float) -> list[float]:
    """The end of each job, through the same planner."""
    gpus = [Gpu(uuid=f"GPU-{i}", index=i, name="x", memory_bytes=1) for i in range(GPUS)]
    events = [(at, 0, index) for index, at in enumerate(submitted)]
    heapq.heapify(events)
    waiting: dict[int, Waiting] = {}
    running: dict[int, Running] = {}
    ended = [0.0] * len(jobs)
    carried = CarriedState()
    while events:
        now = events[0][0]
        while events and events[0][0] <= now:
            _, ends, index = heapq.heappop(events)
            if ends:
                ended[index] = now
                del running[index]
            else:
                job = jobs[index]
                waiting[index] = Waiting(
                    id=index, priority=0, gpus=job.gpus, since=submitted[index], limit_s=job.limit_s
                )
        inputs = PlanInput(
            waiting=list(waiting.values()),
            running=list(running.values()),
            gpus=gpus,
            cpu_slots=1,
            now=now,
            policy=policy,
            carried=carried,
        )
        made = plan(inputs, explain=False)
        carried = made.carried
        for start in made.starts:
            job = jobs[start.id]
            since = waiting.pop(start.id).since
            running[start.id] = Running(
                id=start.id, gpus=start.gpus, since=since, started_at=now, limit_s=job.limit_s
            )
            heapq.heappush(events, (now + job.duration_s + overhead_s, 1, start.id))
    return ended


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--scale", type=float, default=1000.0)
    parser.add_argument("--load", type=float, default=1.0)
    parser.add_argument("--policy", default="auto")
    args = parser.parse_args()
    jobs = read(args.trace, args.jobs, args.scale, args.load)
    figures = {name: getattr(Policy(), name) / args.scale for name in (*TIMES, "unknown_run_s")}
    policy = Policy(name=args.policy, **figures)
    print(f"{len(jobs)} jobs over {jobs[-1].submit_s:.0f} s on {os.cpu_count()} cores", flush=True)
    with tempfile.TemporaryDirectory(prefix="lp-") as place:
        found, overhead_s = live(jobs, policy, Path(place))
    submitted = [at for at, _ in found]
    foretold = simulated(jobs, submitted, policy, overhead_s)
    real = statistics.mean(end - at for at, end in found)
    model = statistics.mean(end - at for at, end in zip(submitted, foretold, strict=True))
    off = real / model - 1
    print(f"start and end of a job: {overhead_s * 1000:.0f} ms (mean)")
    print(f"mean completion time: live {real:.3f} s, simulated {model:.3f} s, off by {off:+.2%}")
    return 0 if abs(off) <= 0.05 else 1


if __name__ == "__main__":
    sys.exit(main())
