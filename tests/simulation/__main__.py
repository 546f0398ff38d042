"""``python -m tests.simulation --seeds 1000``: seeds, days a second, violations, and one digest of all."""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tests.simulation.run import Result, Simulation


def one(seed: int, days: float | None) -> Result:
    """Runs one seed. Its garbage is collected afterwards: on its way that costs a tenth of the time."""
    gc.disable()
    try:
        return Simulation(seed, days).run()
    finally:
        gc.enable()
        gc.collect()


def many(first: int, seeds: int, days: float | None, jobs: int) -> Iterator[Result]:
    """Runs seeds, in their order."""
    if jobs == 1:
        for seed in range(first, first + seeds):
            yield one(seed, days)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(one, range(first, first + seeds), [days] * seeds, chunksize=4)


def explain(result: Result, days: float | None) -> str:
    """A failure: what, where, which troubles it needs, and the command that repeats it."""
    needed = list(result.faults)
    for kind in result.faults:
        fewer = frozenset(result.faults) - frozenset(needed) | {kind}
        try:
            again = Simulation(result.seed, days, without=fewer).run()
        except Exception:
            continue
        if again.violation is not None and again.violation.split()[-3:] == result.violation.split()[-3:]:  # type: ignore[union-attr]
            needed.remove(kind)
    lines = [
        f"seed {result.seed}: {result.violation}",
        f"  at event {result.events}, {result.simulated_s:.3f} s after the begin",
        f"  troubles: {', '.join(result.faults) or 'none'}; needed: {', '.join(needed) or 'none'}",
        f"  again: python -m tests.simulation --from {result.seed} --seeds 1 --trace"
        + (f" --days {days:g}" if days is not None else ""),
        *(f"    {line}" for line in result.tail[-25:]),
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument(
        "--days",
        type=float,
        help="simulated days a seed, before it comes to rest (else each seed draws its own)",
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--trace", action="store_true", help="print every event")
    parser.add_argument("--stop-after", type=int, help="end after so many events")
    parser.add_argument("--without", default="", help="troubles to leave out, separated by commas")
    parser.add_argument("--out", type=Path, help="append a JSON line a seed to this file")
    wanted = parser.parse_args()
    if wanted.trace or wanted.stop_after or wanted.without:
        sim = Simulation(wanted.first, wanted.days, without=frozenset(wanted.without.split(",")))
        sim.world.echo = print if wanted.trace else None
        sim.world.stop_after = wanted.stop_after
        result = sim.run()
        print(result.violation or "no violation", result.digest)
        return int(result.violation is not None)
    begin, cpu = time.monotonic(), time.process_time()
    all_of_them = hashlib.sha256()
    found: list[Result] = []
    total = {
        "events": 0,
        "decisions": 0,
        "claims": 0,
        "preemptions": 0,
        "jobs": 0,
        "commits": 0,
        "lives": 0,
        "simulated_s": 0.0,
        "days": 0.0,
    }
    done = 0
    for result in many(wanted.first, wanted.seeds, wanted.days, wanted.jobs):
        done += 1
        all_of_them.update(result.digest.encode())
        for name in total:
            total[name] += getattr(result, name)
        if wanted.out is not None:
            with wanted.out.open("a") as out:
                out.write(json.dumps({**asdict(result), "tail": []}) + "\n")
        if result.violation is not None:
            found.append(result)
            print(explain(result, wanted.days), flush=True)
        if done % 100 == 0:
            print(f"{done} seeds, {len(found)} violations, {time.monotonic() - begin:.0f} s", file=sys.stderr)
    took = time.monotonic() - begin
    days = total["days"]
    print(
        f"{done} seeds from {wanted.first}, {days:g} days of {total['jobs'] / days:.0f} jobs"
        f" ({total['simulated_s'] / 86400:.0f} days until rest), {wanted.jobs} process(es)\n"
        f"{total['decisions']} decisions, {total['claims']} starts, {total['preemptions']} preemptions,"
        f" {total['commits']} commits, {total['events']} events, {total['lives']} lives of the daemon\n"
        f"{days / took:.2f} days a second"
        f" ({total['simulated_s'] / 86400 / took:.2f} with the time until rest)"
        f" = {86400 * days / took / wanted.jobs:.0f} times real time a process"
        + (f" ({86400 * days / (time.process_time() - cpu):.0f} by CPU time)" if wanted.jobs == 1 else "")
        + f"\n{len(found)} violations\ndigest {all_of_them.hexdigest()}"
    )
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
