"""Paired comparison of two commits: did a change make something slower?

Both commits are checked out side by side and measured in turn: A, B, B, A, and so on, so that load from
elsewhere falls on both, and each under each load that is asked for. Each runs the benchmarks of its own tree,
which fit its own layout; a commit whose benchmarks know no loads (``--load``) gets those of this tree. Peers
are left out. Rows are matched by the name of their figure and their load. What counts is the ratio of
leptond's values within each pair; its mean comes with an interval, because clock times vary.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.rows import row_of

ROOT = Path(__file__).parents[2]
OVERLAY = ("tests/__init__.py", "tests/support/daemon.py", "tests/benchmarks")
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145)
"""Student's t for 95%, two-sided, with 1, 2, ... degrees of freedom."""


def compare(
    first: str, second: str, *, parts: Sequence[str], runs: int, words: Sequence[str], out: Path | None
) -> int:
    """Measure both commits `runs` times, with the options `words`, and print the ratio second / first of each
    figure. Return the exit code: 1 when a part has failed in either of them."""
    with checked_out(first) as one, checked_out(second) as two:
        measured: list[tuple[dict[str, float], dict[str, float]]] = []
        failed: dict[str, str] = {}
        for number in range(runs):
            order = (one, two) if number % 2 == 0 else (two, one)
            found = {}
            for each in order:
                found[each], wrong = _measure(*each, parts, words)
                name = first if each is one else second
                failed |= {f"{part} of {name}": error for part, error in wrong.items()}
            measured.append((found[one], found[two]))
            print(f"  pair {number + 1} of {runs} is measured", file=sys.stderr, flush=True)
    rows = summary(measured)
    for figure in unmatched(measured):
        print(f"  not compared, measured in one commit only: {figure}", file=sys.stderr)
    for part, error in failed.items():
        print(f"  {part} failed: {error}", file=sys.stderr)
    table = Table(title=f"{second} / {first}, {runs} pairs", title_justify="left")
    for head in ("figure", first[:12], second[:12], "ratio", "95% interval", ""):
        table.add_column(head)
    for row in rows:
        table.add_row(
            str(row["figure"]),
            f"{row['first']:.4g}",
            f"{row['second']:.4g}",
            f"{row['ratio']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
            str(row["word"]),
        )
    Console(width=140).print(table)
    if out is not None:
        told = {"first": first, "second": second, "rows": rows, "failed": failed, "measured": measured}
        out.write_text(json.dumps(told, indent=2) + "\n")
    return 1 if failed else 0


def summary(measured: Sequence[tuple[dict[str, float], dict[str, float]]]) -> list[dict[str, str | float]]:
    """Medians, mean ratio and interval of each figure that every measurement has."""
    names = [name for name in measured[0][0] if all(name in a and name in b for a, b in measured)]
    rows: list[dict[str, str | float]] = []
    for name in names:
        pairs = [(a[name], b[name]) for a, b in measured]
        ratio, low, high = interval([b / a for a, b in pairs])
        rows.append(
            {
                "figure": name,
                "first": statistics.median(a for a, _ in pairs),
                "second": statistics.median(b for _, b in pairs),
                "ratio": ratio,
                "low": low,
                "high": high,
                "word": "no difference seen" if low <= 1 <= high else "higher" if ratio > 1 else "lower",
            }
        )
    return rows


def unmatched(measured: Sequence[tuple[dict[str, float], dict[str, float]]]) -> list[str]:
    """Figures that some measurement lacks."""
    every = [set(found) for pair in measured for found in pair]
    return sorted(set.union(*every) - set.intersection(*every))


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of paired ratios and its 95% interval (Student's t on their logarithms). The interval of
    a single pair is unbounded."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(mean), 0.0, math.inf
    t = _T95[len(logs) - 2] if len(logs) - 2 < len(_T95) else 2.1
    half = t * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[tuple[Path, str]]:
    """A worktree of `commit` that has benchmarks, and the Python to run it with: this one, or that of a new
    environment where the commit has other dependencies."""
    with tempfile.TemporaryDirectory(prefix="leptond-compare-") as place:
        tree = Path(place) / "tree"
        _git("worktree", "add", "--detach", str(tree), commit)
        try:
            if not knows_loads(tree):
                overlay(tree)
            python = sys.executable
            if _dependencies(tree) != _dependencies(ROOT):
                subprocess.run([python, "-m", "venv", f"{place}/venv"], check=True)
                python = f"{place}/venv/bin/python"
                subprocess.run([python, "-m", "pip", "install", "-q", str(tree)], check=True)
            yield tree, python
        finally:
            _git("worktree", "remove", "--force", str(tree))


def knows_loads(tree: Path) -> bool:
    """Return True if `tree` has benchmarks of its own that can be asked for their rows under a load."""
    main = tree / "tests" / "benchmarks" / "__main__.py"
    return main.exists() and '"--load"' in main.read_text()


def overlay(tree: Path) -> None:
    """Copy the benchmarks of this tree, and what they import of its tests, into `tree`."""
    for name in OVERLAY:
        source, target = ROOT / name, tree / name
        if source.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def _git(*words: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *words], check=True, stdout=subprocess.DEVNULL)


def _dependencies(tree: Path) -> list[str]:
    with (tree / "pyproject.toml").open("rb") as file:
        return sorted(tomllib.load(file)["project"]["dependencies"])


def _measure(
    tree: Path, python: str, parts: Sequence[str], words: Sequence[str]
) -> tuple[dict[str, float], dict[str, str]]:
    """Measure one commit once: the value of each figure under each load, by its label, and why parts
    failed."""
    file = tree / "figures.json"
    only = [word for part in parts for word in ("--only", part)]
    # its own code comes before what is installed
    env = {**os.environ, "PYTHONPATH": str(tree)}
    command = [
        python,
        "-m",
        "tests.benchmarks",
        "--runs",
        "1",
        "--no-peers",
        "--out",
        str(file),
        *words,
        *only,
    ]
    ended = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 1) or not file.exists():
        raise SystemExit(f"the benchmarks of {tree} ended with {ended.returncode}:\n{ended.stderr[-4000:]}")
    found = json.loads(file.read_text())
    file.unlink()
    rows = [row_of(row) for row in found["rows"]]
    return {row.label: row.leptond[0] for row in rows if row.leptond}, found["failed"]
