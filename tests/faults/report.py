"""The fault campaigns and their report.

    python -m tests.faults.report [--size short|full|N] [--trials NAME=N,...] [--only P1,P14] [--jobs N]
                                  [--seed N] [--out FILE] [--resume]

Writes one JSON line per campaign to FILE (promise, name, title, trials, failures, bound95,
first_failure_seed, coverage, figures, commit, a digest of the program, seconds) and prints them as a table.
Finished trials are kept beside it, in ``FILE.trials/``: interrupted at any moment, even by kill -9, the
command goes on from there with ``--resume`` and loses at most the trials in flight. The exit code is 1 when
a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.faults.campaign import Campaign, Outcome, code, commit, discover

SEED = 1


def main(argv: list[str] | None = None) -> int:
    """Runs what is asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.report", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--size", default="short", help="short (CI), full (release), or a number of trials")
    parser.add_argument("--trials", default="", help="other sizes for campaigns: NAME=N, with commas between")
    parser.add_argument("--jobs", type=int, default=1, help="campaigns at a time, each in its own process")
    parser.add_argument("--only", default="", help="promises or names of campaigns, with commas between")
    parser.add_argument("--seed", type=int, default=SEED, help=f"the seed of all trials (default {SEED})")
    parser.add_argument("--out", type=Path, default=Path("faults-report.jsonl"), help="where the lines go")
    parser.add_argument("--resume", action="store_true", help="go on with what FILE.trials holds")
    parser.add_argument("--markdown", action="store_true", help="only print FILE as a table for the docs")
    parser.add_argument("--list", action="store_true", help="only list the campaigns")
    options = parser.parse_args(argv)
    if options.size not in ("short", "full") and not options.size.isdigit():
        parser.error(f"--size {options.size}: say short, full or a number")
    if options.markdown:
        print(markdown([json.loads(line) for line in options.out.read_text().splitlines()]))
        return 0
    try:
        sizes = {
            name: int(n) for name, _, n in (one.partition("=") for one in options.trials.split(",") if one)
        }
    except ValueError:
        parser.error(f"--trials {options.trials}: say NAME=N,NAME=N")
    campaigns = chosen(discover(), options.only)
    if not campaigns:
        parser.error(f"--only {options.only}: there is no such campaign (--list shows them)")
    if options.list:
        for one in campaigns:
            print(f"{one.promise:8} {one.name:28} short {one.short:6,} full {one.full:8,}  {one.title}")
        return 0
    trials_dir = options.out.with_name(options.out.name + ".trials")
    if not options.resume:
        shutil.rmtree(trials_dir, ignore_errors=True)
    # what has no size is too long to have a short one
    todo = [(one, n) for one in campaigns if (n := sizes.get(one.name, size_of(one, options.size)))]
    lines = []
    try:
        for line in run_all(todo, options.seed, trials_dir, options.jobs):
            lines.append(line)
            write_lines(options.out, lines)
    except KeyboardInterrupt:
        print("interrupted; --resume goes on from here", file=sys.stderr)
        return 130
    finally:
        show(lines)
    return 1 if any(line["failures"] for line in lines) else 0


def chosen(campaigns: list[Campaign], only: str) -> list[Campaign]:
    """Those that `only` names, by promise or by name; all when it is empty."""
    words = {word.strip() for word in only.split(",") if word.strip()}
    return [one for one in campaigns if not words or words & {*one.promise.split(), one.name}]


def size_of(one: Campaign, size: str) -> int:
    """How many trials."""
    return {"short": one.short, "full": one.full}[size] if size in ("short", "full") else int(size)


def run_all(
    todo: list[tuple[Campaign, int]], seed: int, trials_dir: Path, jobs: int
) -> Iterator[dict[str, Any]]:
    """The lines of campaigns, as they come to their ends; `jobs` of them at a time."""
    if jobs == 1:
        for one, trials in todo:
            print(f"{one.promise} {one.name} ...", file=sys.stderr, flush=True)
            yield run_one(one, trials, seed, trials_dir / one.name)
        return
    # each in a process of its own: most of them have threads, and some change what a process has
    with ThreadPoolExecutor(jobs) as pool:
        ends = [pool.submit(_apart, one, trials, seed, trials_dir) for one, trials in todo]
        for end in as_completed(ends):
            yield end.result()


def _apart(one: Campaign, trials: int, seed: int, trials_dir: Path) -> dict[str, Any]:
    """:func:`run_one` in a process of its own."""
    print(f"{one.promise} {one.name} ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "tests.faults.report", "--resume", "--only", one.name]
    out = trials_dir / "lines" / f"{one.name}.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    # the trials are where they would be without --jobs
    beside = out.with_name(out.name + ".trials")
    if not beside.is_symlink():
        beside.symlink_to(trials_dir)
    options = ["--size", str(trials), "--seed", str(seed), "--out", str(out)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    lines = [json.loads(text) for text in out.read_text().splitlines()] if out.exists() else []
    line = next((line for line in lines if line["name"] == one.name), None)
    if line is None or done.returncode not in (0, 1):
        raise RuntimeError(f"{one.name} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return line


def run_one(one: Campaign, trials: int, seed: int, workdir: Path) -> dict[str, Any]:
    """The report's line of a campaign."""
    begin = time.monotonic()
    outcome = one.run(trials, seed, workdir)
    # those of trials that an earlier run has done count too
    return line_of(one, outcome, max(outcome.seconds, time.monotonic() - begin))


def line_of(one: Campaign, outcome: Outcome, seconds: float) -> dict[str, Any]:
    """As it stands in the file."""
    bound = outcome.bound95
    return {
        "promise": one.promise,
        "name": one.name,
        "title": one.title,
        "trials": outcome.trials,
        "failures": outcome.failures,
        "bound95": float(f"{bound:.3g}") if bound is not None else None,
        "first_failure_seed": outcome.first_failure_seed,
        "coverage": outcome.coverage,
        "skipped": outcome.skipped,
        "figures": outcome.figures,
        "commit": commit(),
        "code": code(),
        "seconds": round(seconds, 1),
    }


def write_lines(file: Path, lines: list[dict[str, Any]]) -> None:
    """The whole file, at once: lines of campaigns that this run did not touch stay."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = {line["name"] for line in lines}
    old = [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []
    every = [line for line in old if line["name"] not in fresh] + lines
    every.sort(key=lambda line: (int(line["promise"].split()[0][1:]), line["name"]))
    aside = file.with_name(file.name + ".tmp")
    aside.write_text("".join(json.dumps(line) + "\n" for line in every))
    aside.replace(file)


def markdown(lines: list[dict[str, Any]]) -> str:
    """The table that stands in docs/reliability.md."""
    rows = [
        f"| {line['promise']} | {line['title']} | {line['trials']:,} | {line['failures']:,} |"
        f" {line['coverage'] or _bound(line['bound95'])} | {line['commit']} |"
        for line in lines
        if not line["skipped"]
    ]
    head = [
        "| promise | what | trials | broken | covered, or 95% bound | commit |",
        "|---|---|---:|---:|---|---|",
    ]
    return "\n".join([*head, *rows])


def _bound(bound: float | None) -> str:
    return f"below {bound:.2%}" if bound is not None else ""


def show(lines: list[dict[str, Any]]) -> None:
    """The table."""
    if not lines:
        return
    table = Table(title=f"fault campaigns at {commit()}", title_justify="left")
    for head in ("promise", "what", "trials", "broken", "rate (95%)", "first failure", "seconds"):
        table.add_column(head, justify="left" if head in ("promise", "what", "first failure") else "right")
    for line in lines:
        what = line["title"] + (f" ({line['coverage']})" if line["coverage"] else "")
        table.add_row(
            line["promise"],
            what if not line["skipped"] else f"{line['title']}: skipped, {line['skipped']}",
            f"{line['trials']:,}",
            f"{line['failures']:,}",
            _bound(line["bound95"]),
            line["first_failure_seed"] or "",
            f"{line['seconds']:,.0f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    sys.exit(main())
