"""The command line beside a bare interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import row
from tests.benchmarks.jobs import daemon, p50
from tests.benchmarks.rows import Row

CALLS = 15
COMMANDS = {
    "status": ["status"],
    "submit": ["submit", "-q", "--hold", "--", "true"],
    "queue": ["queue"],
}


def run(bench: Bench) -> list[Row]:
    """Time whole commands in a pipe, from fork to exit, and `python -c pass`, alternately."""
    program = Path(sys.executable).with_name("leptonctl")
    command = [str(program)] if program.exists() else [sys.executable, "-m", "leptond.cli"]
    bare: list[float] = []
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with daemon(bench.place, gpus=2) as one:
        env = {**os.environ, "LEPTOND_HOST": f"unix://{one.socket}"}
        for _ in range(bench.runs):
            took: dict[str, list[float]] = {name: [] for name in ("", *COMMANDS)}
            for _ in range(CALLS):
                took[""].append(_ms([sys.executable, "-c", "pass"], env))
                for name, words in COMMANDS.items():
                    took[name].append(_ms([*command, *words], env))
            bare.append(p50(took[""]))
            for name in COMMANDS:
                found[name].append(p50(took[name]))
    return [row(name, bench.load, values, floor=bare) for name, values in found.items()]


def _ms(command: Sequence[str], env: dict[str, str]) -> float:
    begin = time.perf_counter()
    # no timeout: with one, Python looks at its child at 15, 31 and 63 ms, and all times are one of these
    subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - begin) * 1000
