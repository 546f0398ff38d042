"""Every policy in an outside simulator, against the bars that leptond sets itself.

    python -m tests.benchmarks.policies --simulator sched_sim.py --traces traces/

Prints, for each policy, the geometric means over the traces and the loads, relative to first-fit in order of
submission (utilisation, idle time and the planner's call are plain means), and then the bars. Leaves with 1
when a bar is missed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.benchmarks import planner_adapter

MODES = ("auto", "auto_half", "auto_all")
OPTIONS = ("fifo", "firstfit", "shortest", "easy", "throughput")
LOADS = (0.7, 1.0, 1.3)
TRACE_GPUS = 8
"""The machine for which the traces are scaled to a load of 1, and for which the bars are set."""

RELATIVE = {
    "jct": "jct_mean",
    "slowdown": "bsld_mean",
    "short wait": "short_wait_mean",
    "8-gpu mean": "big_wait_mean",
    "8-gpu max": "big_wait_max",
}
PLAIN = {
    "util": "util_window",
    "idle queued": "idle_queued_frac",
    "plan ms": "plan_ms",
    "preempts": "preempts",
}

BARS: dict[str, dict[str, float]] = {
    "auto": {
        "jct": 0.55,
        "slowdown": 0.33,
        "8-gpu max": 1.8,
        "8-gpu mean": 0.75,
        "util": 0.70,
        "idle queued": 0.22,
    },
    "auto_half": {"jct": 0.48, "slowdown": 0.12, "8-gpu max": 1.3, "util": 0.76, "idle queued": 0.17},
    "auto_all": {"jct": 0.42, "slowdown": 0.02, "8-gpu max": 0.95, "util": 0.84, "idle queued": 0.10},
}
STRETCH: dict[str, dict[str, float]] = {
    "auto": {"jct": 0.46, "8-gpu max": 1.2},
    "auto_all": {"jct": 0.30, "8-gpu max": 1.0},
}
PLAN_MS = 1.0


def load(path: Path) -> ModuleType:
    """The simulator, from its file."""
    spec = importlib.util.spec_from_file_location("simulator", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulator"] = module
    spec.loader.exec_module(module)
    return module


def runs(
    simulator: ModuleType, factory: Any, traces: list[Path], *, gpus: int, arrivals: str
) -> list[dict[str, float]]:
    """One policy on every trace at every load, on a machine of `gpus` GPUs. Wider jobs are left out, and the
    arrivals are scaled so that the load is the one that is asked for."""
    found = []
    for trace in traces:
        full = 1.0 if gpus == TRACE_GPUS else _load_of(simulator, trace, gpus)
        found += [
            simulator.simulate(str(trace), factory(), load_ / full, gpus=gpus, arrivals=arrivals)
            for load_ in LOADS
        ]
    return found


def _load_of(simulator: ModuleType, trace: Path, gpus: int) -> float:
    """The load that a trace as it is offers a machine of `gpus` GPUs."""
    jobs = simulator.load_trace(str(trace), 1.0, gpus)
    return float(sum(job.gpus * job.duration for job in jobs) / (gpus * (jobs[-1].submit - jobs[0].submit)))


def summary(found: list[dict[str, float]], base: list[dict[str, float]]) -> dict[str, float]:
    """The figures of a policy."""
    row = {}
    for name, key in RELATIVE.items():
        logs = [
            math.log(max(one[key], 1e-9) / first[key])
            for one, first in zip(found, base, strict=True)
            if first[key]
        ]
        row[name] = math.exp(sum(logs) / len(logs)) if logs else math.nan
    for name, key in PLAIN.items():
        row[name] = sum(one[key] for one in found) / len(found)
    return row


def judged(
    table: dict[str, dict[str, float]], bars: dict[str, dict[str, float]]
) -> list[tuple[str, str, float, float, bool]]:
    """(mode, figure, value, bar, met)."""
    found = []
    for mode, wanted in bars.items():
        for name, bar in wanted.items():
            value = table[mode][name]
            found.append((mode, name, value, bar, value >= bar if name == "util" else value <= bar))
    return found


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulator", type=Path, required=True, help="the simulator's file, sched_sim.py")
    parser.add_argument("--traces", type=Path, required=True, help="a directory of traces (CSV)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--arrivals", choices=("trace", "poisson"), default="trace")
    parser.add_argument("--gpus", type=int, default=TRACE_GPUS, help="GPUs of the simulated machine")
    args = parser.parse_args()
    machine = {"gpus": args.gpus, "arrivals": args.arrivals}
    simulator = load(args.simulator)
    traces = sorted(args.traces.glob("*.csv"))
    base = runs(simulator, planner_adapter.firstfit, traces, **machine)
    table = {}
    names = (*RELATIVE, *PLAIN)
    print(f"{'policy':12}" + "".join(f"{name:>12}" for name in names), flush=True)
    for policy in (*MODES, *OPTIONS):
        found = (
            base
            if policy == "firstfit"
            else runs(simulator, getattr(planner_adapter, policy), traces, **machine)
        )
        table[policy] = summary(found, base)
        print(f"{policy:12}" + "".join(f"{table[policy][name]:12.4f}" for name in names), flush=True)
    print()
    missed = 0
    for title, bars in (("bar", BARS), ("stretch", STRETCH)):
        for mode, name, value, bar, met in judged(table, bars):
            word = "met" if met else "MISSED"
            missed += not met and title == "bar"
            sign = ">=" if name == "util" else "<="
            print(f"{title:8} {mode:10} {name:12} {value:8.4f}  {sign} {bar:<6} {word}")
    for mode in MODES:
        value = table[mode]["plan ms"]
        missed += value > PLAN_MS
        word = "met" if value <= PLAN_MS else "MISSED"
        print(f"bar      {mode:10} {'plan ms':12} {value:8.4f}  <= {PLAN_MS:<6} {word}")
    if args.json is not None:
        args.json.write_text(json.dumps(table, indent=2))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
