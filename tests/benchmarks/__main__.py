"""All benchmarks: every figure with its floor and its peers from the same run, against its bar.

    python -m tests.benchmarks [--runs 5] [--only NAME ...] [--out FILE] [--docs]
    python -m tests.benchmarks --rows FILE ... [--docs]
    python -m tests.benchmarks --compare COMMIT COMMIT [--runs 5] [--only NAME ...]

Leaves with 1 when a bar is missed or a part fails. Peers that are not installed are named and skipped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from leptond import __version__
from tests.benchmarks import show
from tests.benchmarks.compare import compare
from tests.benchmarks.rows import Row, row_of

PARTS = ("gap", "drain", "start", "warm", "submits", "queue", "command", "recovery", "rest")
"""Modules of this package with `run(place, runs) -> list[Row]`."""

DOCS = Path(__file__).parents[2] / "docs"


def main() -> int:
    """Runs what was asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="leptond's benchmarks")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="how often each is measured [5]")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; as often as you like")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the rows there, as JSON")
    parser.add_argument("--docs", action="store_true", help="put table and chart into docs/benchmarks.md")
    parser.add_argument("--compare", nargs=2, metavar="COMMIT", help="two commits against each other")
    parser.add_argument("--rows", type=Path, nargs="+", metavar="FILE", help="show what --out wrote before")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    parts = options.only or PARTS
    if options.compare:
        compare(*options.compare, parts=parts, runs=options.runs, out=options.out)
        return 0
    machine, runs = show.machine(), options.runs

    def write(rows: list[Row], failed: dict[str, str]) -> None:
        if options.out:
            told = {"leptond": __version__, "runs": runs, "machine": machine}
            text = json.dumps({**told, "rows": [row.as_json() for row in rows], "failed": failed}, indent=2)
            options.out.write_text(text + "\n")

    if options.rows:
        found = [json.loads(file.read_text()) for file in options.rows]
        rows = [row_of(row) for one in found for row in one["rows"]]
        failed = {part: error for one in found for part, error in one["failed"].items()}
        machine, runs = found[0]["machine"], min(one["runs"] for one in found)
    else:
        rows, failed = measure(parts, runs, write)
    show.table(rows)
    for part, error in failed.items():
        print(f"  {part} failed: {error}")
    write(rows, failed)
    if options.docs:
        show.document(DOCS / "benchmarks.md", DOCS / "benchmarks.svg", rows, runs, machine)
    missed = any(row.bar is not None and row.verdict() == "missed" for row in rows)
    return 1 if missed or failed else 0


def measure(
    parts: Sequence[str], runs: int, write: Callable[[list[Row], dict[str, str]], None]
) -> tuple[list[Row], dict[str, str]]:
    """The rows of all parts, one part after the other, and why parts failed, which does not keep the others
    from being measured. Both are handed to `write` after each part."""
    rows: list[Row] = []
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="leptond-bench-", ignore_cleanup_errors=True) as place:
        for part in parts:
            print(f"  {part} ...", file=sys.stderr, flush=True)
            directory = Path(place) / part
            directory.mkdir()
            try:
                rows += import_module(f"tests.benchmarks.{part}").run(directory, runs)
            except Exception as error:
                traceback.print_exc()
                failed[part] = f"{type(error).__name__}: {error}"[:500]
            shutil.rmtree(directory, ignore_errors=True)
            write(rows, failed)
    return rows, failed


if __name__ == "__main__":
    sys.exit(main())
