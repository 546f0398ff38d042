"""The cost of being there: processor time and memory of daemon and shims while jobs train and report."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import REPORTING, row
from tests.benchmarks.jobs import daemon, p50
from tests.benchmarks.load import process_cpu_s
from tests.benchmarks.rest import children
from tests.benchmarks.rows import Row
from tests.support.daemon import TOP, Daemon, parent_of, until

WATCH_S = 30.0
SETTLE_S = 5.0
PREPARE_S = 60.0
JOB = """\
import time

import torch
from leptond import job

torch.set_num_threads(1)
model = torch.nn.Linear(32, 32)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
step, due = 0, time.monotonic()
while True:
    for _ in range(10):
        loss = model(torch.randn(16, 32)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
    job.report(step=step, total=10**9, loss=loss.item())
    due += 1.0
    time.sleep(max(0.0, due - time.monotonic()))
"""


def run(bench: Bench) -> list[Row]:
    """Eight jobs at once that take ten steps of a small model and report once a second, under the default
    settings: in each run half a minute of them, once they are at it."""
    keys = ("cpu", "memory_shims", "memory_all", "memory_warm")
    if find_spec("torch") is None:
        return [row(key, bench.load, (), note="torch is not installed") for key in keys]
    script = bench.place / "train.py"
    script.write_text(JOB)
    parts: dict[str, list[float]] = {"daemon": [], "helpers": [], "shims": []}
    found: dict[str, list[float]] = {key: [] for key in keys}
    with daemon(bench.place / "daemon", gpus=REPORTING, LEPTOND_ENGINE__WARM="true") as one:
        assert one.process is not None
        with bench.load.paused():
            _prepare(one, script)
        jobs = [_submit(one, script) for _ in range(REPORTING)]
        for job in jobs:
            until(lambda job=job: (one.job(job).get("progress") or {}).get("step"), "its first report")
        time.sleep(SETTLE_S)
        shims = {parent_of(one.pid(job)) for job in jobs}
        groups = {
            "daemon": {one.process.pid},
            "shims": shims,
            "helpers": _below(one.process.pid) - _and_below(shims) - {one.process.pid},
        }
        for _ in range(bench.runs):
            for name, percent in _watched(groups).items():
                parts[name].append(percent)
            memory = {name: sum(map(_proportional_mb, pids)) for name, pids in groups.items()}
            warm = max(map(_proportional_mb, groups["helpers"]), default=0.0)
            found["memory_shims"].append(memory["shims"])
            found["memory_all"].append(sum(memory.values()) - warm)
            found["memory_warm"].append(warm)
        _still_reporting(one, jobs)
    found["cpu"] = [sum(each) for each in zip(*parts.values(), strict=True)]
    told = ", ".join(f"{name} {p50(values):.2f}" for name, values in parts.items())
    notes = {"cpu": told, "memory_all": "without the warm process"}
    return [row(key, bench.load, found[key], note=notes.get(key, "")) for key in keys]


def _submit(one: Daemon, script: Path) -> int:
    return one.submit(sys.executable, str(script), gpus=1, env={"PYTHONPATH": str(TOP)})


def _prepare(one: Daemon, script: Path) -> None:
    """Run a job of the kind until one starts warm, as on a daemon that has run some before."""
    deadline = time.monotonic() + PREPARE_S
    start = ""
    while start != "warm" and time.monotonic() < deadline:
        job = _submit(one, script)
        until(lambda job=job: (one.job(job).get("progress") or {}).get("step"), "its first report")
        start = one.job(job)["attempts"][-1]["start"]
        one.post(f"/v1/jobs/{job}/cancel", {"grace_s": 0})
        one.finished(job)


def _watched(groups: dict[str, set[int]]) -> dict[str, float]:
    """Per cent of a core that each group takes over WATCH_S."""
    before = {name: _cpu_s(pids) for name, pids in groups.items()}
    begin = time.monotonic()
    time.sleep(WATCH_S)
    seconds = time.monotonic() - begin
    return {name: 100 * (_cpu_s(pids) - before[name]) / seconds for name, pids in groups.items()}


def _cpu_s(pids: Iterable[int]) -> float:
    return sum(process_cpu_s(pid) for pid in pids)


def _still_reporting(one: Daemon, jobs: list[int]) -> None:
    """Check that what was measured is the reports of all jobs."""
    for job in jobs:
        seen = one.job(job)["progress"]["step"]
        until(lambda job=job, seen=seen: one.job(job)["progress"]["step"] > seen, "its next report")


def _below(pid: int) -> set[int]:
    return {each for child in children(pid) for each in _and_below({child})}


def _and_below(pids: Iterable[int]) -> set[int]:
    """The processes and all that they have started."""
    found: set[int] = set()
    for pid in pids:
        found |= {pid} | _below(pid)
    return found


def _proportional_mb(pid: int) -> float:
    """Proportional set size: pages that are shared count in parts."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise AssertionError(f"no Pss of {pid}")
