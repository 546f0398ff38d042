"""All benchmarks: every figure with its floor and its peers from the same run, quiet and with all cores busy,
against its bar.

    python -m tests.benchmarks [--load both] [--runs 5] [--only NAME ...] [--out FILE] [--docs]
    python -m tests.benchmarks --rows FILE ... [--out FILE] [--docs]
    python -m tests.benchmarks --compare COMMIT COMMIT [--load both] [--runs 5] [--only NAME ...]

Leaves with 1 when a bar is missed or a part fails. Peers and environments that are not there are named and
skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from leptond import __version__
from tests.benchmarks import document, show
from tests.benchmarks.bench import PACKAGES, Bench
from tests.benchmarks.compare import compare
from tests.benchmarks.figures import ALL_PEERS
from tests.benchmarks.load import LOADS, Load, LoadName
from tests.benchmarks.rows import Row, merged, row_of

PARTS = (
    "gap",
    "drain",
    "start",
    "warm",
    "ranks",
    "shim",
    "short_sweep",
    "sweep",
    "submits",
    "queue",
    "command",
    "recovery",
    "reporting",
    "rest",
)
"""Modules of this package with `run(bench) -> list[Row]`."""

DOCS = Path(__file__).parents[2] / "docs"


@dataclass(kw_only=True)
class Results:
    """What was measured: the rows, why parts failed, and the circumstances."""

    rows: list[Row] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=show.machine)
    leptond: str = __version__
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each part took, under each load."""
    spinning: dict[str, float] = field(default_factory=dict)
    """The share of all cores that the spinning processes had beside each part."""

    def as_json(self) -> dict[str, Any]:
        """Return what :meth:`of` reads."""
        return {**vars(self), "rows": [row.as_json() for row in self.rows]}

    @classmethod
    def of(cls, files: Sequence[Path]) -> Results:
        """Return what was written into files, together: rows of the same figure and load in one."""
        found = [json.loads(file.read_text()) for file in files]
        together = cls(machine=found[0]["machine"], leptond=found[0]["leptond"])
        together.rows = merged(row_of(row) for one in found for row in one["rows"])
        for one in found:
            together.failed |= one["failed"]
            together.spinning |= one.get("spinning", {})
            for part, seconds in one.get("seconds", {}).items():
                together.seconds[part] = together.seconds.get(part, 0.0) + seconds
        return together


def main() -> int:
    """Run what was asked for; return the exit code."""
    parser = _parser()
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    for name in ("packages", "ray"):
        place = getattr(options, name)
        if place is not None and not (place / "bin" / "python").exists():
            parser.error(f"--{name}: {place} is no virtual environment: it has no bin/python")
    parts = options.only or PARTS
    loads: tuple[LoadName, ...] = LOADS if options.load == "both" else (options.load,)
    if options.compare:
        words = ["--load", options.load]
        for name in ("packages", "ray"):
            if (place := getattr(options, name)) is not None:
                words += [f"--{name}", str(place.absolute())]
        return compare(*options.compare, parts=parts, runs=options.runs, words=words, out=options.out)

    def write(results: Results) -> None:
        if options.out:
            options.out.write_text(json.dumps(results.as_json(), indent=2) + "\n")

    if options.rows:
        results = Results.of(options.rows)
    else:

        def bench(place: Path, load: Load) -> Bench:
            return Bench(
                place=place,
                runs=options.runs,
                load=load,
                peers=frozenset(() if options.no_peers else options.peers or ALL_PEERS),
                packages=options.packages,
                ray=options.ray,
            )

        with _ends_with_a_signal():
            results = measure(parts, loads, bench, write)
    show.table(results.rows, results.leptond)
    for part, error in results.failed.items():
        print(f"  {part} failed: {error}")
    write(results)
    if options.docs:
        document.write(
            DOCS / "benchmarks.md", DOCS / "benchmarks.svg", results.rows, results.machine, results.leptond
        )
    missed = any(row.verdict() == "missed" for row in results.rows)
    return 1 if missed or results.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="leptond's benchmarks")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="how often each is measured [5]")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; as often as you like")
    parser.add_argument(
        "--load",
        choices=(*LOADS, "both"),
        default="quiet",
        help="with nothing, or a spinning process a core [quiet]",
    )
    parser.add_argument(
        "--peers", nargs="+", choices=sorted(ALL_PEERS), metavar="NAME", help="measure these peers only"
    )
    parser.add_argument("--no-peers", action="store_true", help="measure leptond and its floors only")
    parser.add_argument("--packages", type=Path, metavar="VENV", help=f"environment with torch, {PACKAGES}")
    parser.add_argument("--ray", type=Path, metavar="VENV", help="environment with torch and ray[tune]")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the rows there, as JSON")
    parser.add_argument("--docs", action="store_true", help="put table and chart into docs/benchmarks.md")
    parser.add_argument("--compare", nargs=2, metavar="COMMIT", help="two commits against each other")
    parser.add_argument("--rows", type=Path, nargs="+", metavar="FILE", help="show what --out wrote before")
    return parser


@contextlib.contextmanager
def _ends_with_a_signal() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the run as Ctrl-C does: with its daemons and spinning processes."""

    def stop(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def measure(
    parts: Sequence[str],
    loads: Sequence[LoadName],
    bench: Callable[[Path, Load], Bench],
    write: Callable[[Results], None],
) -> Results:
    """Return the rows of all parts, one part after the other, each under one load after the other, and why
    parts failed, which does not keep the others from being measured. They are handed to `write` after
    each."""
    results = Results()
    with tempfile.TemporaryDirectory(prefix="leptond-bench-", ignore_cleanup_errors=True) as place:
        for part in parts:
            for name in loads:
                label = part if name == "quiet" else f"{part} (cores busy)"
                print(f"  {label} ...", file=sys.stderr, flush=True)
                directory = Path(place) / f"{part}-{name}"
                directory.mkdir()
                load, begin = Load(name), time.monotonic()
                try:
                    with load.on():
                        found = import_module(f"tests.benchmarks.{part}").run(bench(directory, load))
                    results.rows += found
                except Exception as error:
                    traceback.print_exc()
                    results.failed[label] = f"{type(error).__name__}: {error}"[:500]
                results.seconds[label] = time.monotonic() - begin
                if load.share is not None:
                    results.spinning[label] = load.share
                shutil.rmtree(directory, ignore_errors=True)
                write(results)
    return results


if __name__ == "__main__":
    sys.exit(main())
