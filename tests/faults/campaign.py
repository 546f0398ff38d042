"""Campaigns: how often a promise was tried to be broken, and how often it broke.

A campaign is a function ``run(trials, seed, workdir) -> Outcome``, registered for a promise::

    @campaign("P6", title="Shim killed", short=10, full=500)
    def shim_kills(trials: int, seed: int, workdir: Path) -> Outcome:
        return run_trials(one_shim_kill, trials, seed, workdir)

and lives in a module ``campaign_*.py`` anywhere under tests/, where ``python -m tests.faults.report`` finds
it. `run_trials` does the bookkeeping: a trial is ``one(dice, place) -> Found``, with all its chances drawn
from `dice` (a ``random.Random`` of seed and index) and its files in `place` (an empty directory with a short
name); it raises AssertionError where a promise is broken. Each trial that has ended is a line in
``workdir/trials.jsonl``, so a campaign that was interrupted, even by kill -9, goes on with the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one trial saw. `count`: how many tries it stands for (kills, images, races); `failures`: how many
    of them broke the promise; `figures`: numbers that the campaign adds up; `notes`: facts by name, of which
    the campaign keeps how often each value came."""

    count: int = 1
    failures: int = 0
    figures: Figures = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The sum of a campaign; `seconds` are those of its trials. `first_failure_seed` repeats the first
    failure; `coverage` is said where a campaign is exhaustive ("412 of 412 crash points"): then a bound would
    say nothing."""

    trials: int
    failures: int
    first_failure_seed: str | None = None
    figures: Figures = field(default_factory=dict)
    coverage: str = ""
    skipped: str = ""
    seconds: float = field(default=0.0, compare=False)

    @property
    def bound95(self) -> float | None:
        """The 95% upper bound of the true rate of failure, of trials that are independent."""
        return bound95(self.failures, self.trials) if self.trials and not self.coverage else None


Run = Callable[[int, int, Path], Outcome]
Trial = Callable[[random.Random, Path], Found]


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """A registered campaign. `short` and `full` are its sizes in trials; `name` tells campaigns of one
    promise apart."""

    promise: str
    name: str
    title: str
    short: int
    full: int
    run: Run


REGISTRY: list[Campaign] = []


def campaign(promise: str, *, title: str, short: int, full: int, name: str = "") -> Callable[[Run], Run]:
    """Registers a campaign for `promise` ("P2"; "P19 P20" where one campaign tries several)."""

    def register(run: Run) -> Run:
        known = name or run.__name__.replace("_", "-")
        assert known not in {one.name for one in REGISTRY}, f"two campaigns are called {known}"
        REGISTRY.append(Campaign(promise=promise, name=known, title=title, short=short, full=full, run=run))
        return run

    return register


def discover() -> list[Campaign]:
    """All campaigns, by promise number: every module tests/**/campaign_*.py is imported."""
    import importlib

    for file in sorted((ROOT / "tests").rglob("campaign_*.py")):
        importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
    return sorted(REGISTRY, key=lambda one: (int(one.promise.split()[0][1:]), one.name))


def bound95(failures: int, trials: int) -> float:
    """The 95% upper bound of a rate: 3/n after n trials without a failure (the rule of three), else the
    one-sided Clopper-Pearson bound: the rate at which so few failures have a chance of 5%."""
    if failures == 0:
        return min(1.0, 3 / trials)
    if failures >= trials:
        return 1.0
    low, high = failures / trials, 1.0
    for _ in range(60):
        rate = (low + high) / 2
        if _at_most(failures, trials, rate) > 0.05:
            low = rate
        else:
            high = rate
    return high


def _at_most(failures: int, trials: int, rate: float) -> float:
    """The chance of at most `failures` in `trials` at `rate`."""
    return sum(
        math.exp(
            math.lgamma(trials + 1)
            - math.lgamma(k + 1)
            - math.lgamma(trials - k + 1)
            + k * math.log(rate)
            + (trials - k) * math.log1p(-rate)
        )
        for k in range(failures + 1)
    )


@cache
def commit() -> str:
    """The commit that is tested, with "+" when the program differs from it; "unknown" outside git."""
    try:
        short = _git("rev-parse", "--short", "HEAD")
        dirty = _git("status", "--porcelain", "--", "leptond", "migrations", "tests")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return short + ("+" if dirty else "")


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()


BESIDE = (
    "cli",
    "demo",
    "integrations",
    "train",
    "call.py",
    "callresult.py",
    "executor.py",
    "futures.py",
    "reference.py",
    "sdk.py",
)


def _beside(file: Path) -> bool:
    return file.parts[1] in BESIDE


@cache
def code() -> str:
    """A digest of the program itself: trials of another program do not count when a campaign goes on.
    What only commands, scripts in a job and the demo import is not in it: no campaign runs that.
    """
    digest = hashlib.sha256()
    for top in ("leptond", "migrations"):
        for file in sorted((ROOT / top).rglob("*")):
            if file.suffix in (".py", ".sql") and not _beside(file.relative_to(ROOT)):
                digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def run_trials(one: Trial, trials: int, seed: int, workdir: Path, *, parallel: int = 1) -> Outcome:
    """Runs `one` for each index from 0 to `trials` - 1 that ``workdir/trials.jsonl`` does not hold yet, and
    sums up all of them. A trial that fails leaves its files in ``workdir/failed-INDEX``."""

    def by_index(index: int, place: Path) -> Found:
        return one(random.Random(f"{seed}/{index}"), place)

    return run_points(by_index, range(trials), seed, workdir, parallel=parallel)


def run_points(
    one: Callable[[int, Path], Found],
    points: Sequence[int],
    seed: int,
    workdir: Path,
    *,
    parallel: int = 1,
) -> Outcome:
    """The same for a campaign that is exhaustive: a trial is ``one(point, place)``."""
    workdir.mkdir(parents=True, exist_ok=True)
    book = _Book(workdir / "trials.jsonl", seed)
    todo = iter([index for index in points if index not in book.done])
    with contextlib.closing(_Pool(parallel)) as pool:
        running: set[Future[None]] = set()
        while True:
            while len(running) < parallel and (index := next(todo, None)) is not None:
                running.add(pool.submit(_one_trial, one, index, workdir, book))
            if not running:
                break
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                future.result()
    return book.sum(points)


class _Pool:
    """Threads that an interrupt does not wait for longer than the trials in flight."""

    def __init__(self, parallel: int) -> None:
        self._executor = ThreadPoolExecutor(parallel, thread_name_prefix="trial")
        self.submit = self._executor.submit

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


def _one_trial(one: Callable[[int, Path], Found], index: int, workdir: Path, book: _Book) -> None:
    begin = time.monotonic()
    # a Unix socket's path is short, so the place is not below workdir
    with tempfile.TemporaryDirectory(prefix="lept-", ignore_cleanup_errors=True) as place:
        try:
            found = one(index, Path(place))
        except Exception as error:
            words = "".join(traceback.format_exception(error))[-6000:]
            found = Found(failures=1, why=words)
        if found.failures:
            kept = workdir / f"failed-{index}"
            shutil.rmtree(kept, ignore_errors=True)
            with contextlib.suppress(shutil.Error, OSError):  # sockets cannot be copied
                shutil.copytree(place, kept, symlinks=True)
    book.add(index, found, time.monotonic() - begin)


class _Book:
    """The file of finished trials, one JSON line each, synced."""

    def __init__(self, file: Path, seed: int) -> None:
        self.file, self.seed = file, seed
        self.done: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()
        for line in _whole_lines(file):
            if line["seed"] == seed and line["code"] == code():
                self.done[line["index"]] = line

    def add(self, index: int, found: Found, seconds: float) -> None:
        line = {"index": index, "seed": self.seed, "code": code(), "commit": commit()}
        line |= {**asdict(found), "seconds": round(seconds, 3)}
        with self._lock:
            self.done[index] = line
            fd = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.write(fd, (json.dumps(line) + "\n").encode())
                os.fsync(fd)
            finally:
                os.close(fd)

    def sum(self, wanted: Sequence[int]) -> Outcome:
        lines = [self.done[index] for index in wanted if index in self.done]
        figures: Figures = {}
        for line in lines:
            for name, value in line["figures"].items():
                figures[name] = round(figures.get(name, 0) + value, 3)
            for name, value in line["notes"].items():
                counts = figures.setdefault(name, {})
                counts[value] = counts.get(value, 0) + 1
        first = next((line for line in lines if line["failures"]), None)
        return Outcome(
            trials=sum(line["count"] for line in lines),
            failures=sum(line["failures"] for line in lines),
            first_failure_seed=f"{first['seed']}/{first['index']}" if first is not None else None,
            figures=figures,
            seconds=sum(line["seconds"] for line in lines),
        )


def _whole_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file that may end within one: a kill cut that trial off. The rest is removed, so that
    the next line does not join it."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        os.truncate(file, len(whole))
    for line in whole.splitlines():
        yield json.loads(line)
