"""Promise 14: a kill is total. Every kind of the zoo at once on one daemon, with and without cgroups; after
the cancel, the limit or their own end nothing of them is left, alive or as a zombie."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.campaign import Found, Outcome, campaign, run_trials
from tests.faults.zoo import Kind, kinds, leashed, on_leash
from tests.support.daemon import Daemon, until

SETTLE_S = 5.0
"""The promise: no survivor so many seconds after the stop and its grace."""
LIMIT_S = 1.0
"""The time limit of those that are not cancelled."""
BUSY = frozenset(
    {
        "binary-output",
        "floods-its-log",
        "fork-chain",
        "fork-chain-of-sessions",
        "fork-exec-chain",
        "kills-its-shim-and-chains",
        "one-endless-line",
    }
)
"""Kinds that take the processor from the others: they begin last, and are cancelled first."""


@campaign("P14", title="A kill is total, by the process tree", short=1, full=100)
def kill_by_tree(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is a round of the whole zoo without cgroups."""
    return _rounds(trials, seed, workdir, with_cgroup=False)


@campaign("P14", title="A kill is total, by the cgroup", short=1, full=100)
def kill_by_cgroup(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is a round of the whole zoo, each job in a cgroup of its own."""
    if (why := no_cgroup()) != "":
        return Outcome(trials=0, failures=0, skipped=why)
    return _rounds(trials, seed, workdir, with_cgroup=True)


def _rounds(trials: int, seed: int, workdir: Path, *, with_cgroup: bool) -> Outcome:
    with tempfile.TemporaryDirectory() as build:

        def one(dice: random.Random, place: Path) -> Found:
            chosen = [kind for kind in kinds().values() if not kind.missing()]
            return one_round(dice, place, chosen, Path(build), with_cgroup=with_cgroup)

        return run_trials(one, trials, seed, workdir)


def one_round(
    dice: random.Random, place: Path, chosen: list[Kind], build: Path, *, with_cgroup: bool
) -> Found:
    """Each kind once: half of those that do not end by themselves are cancelled, half meet their limit."""
    # not from the dice: of two runs at once, with equal dice, each would find the other's processes
    base = 100_000 + secrets.randbelow(2000) * 300
    in_order = sorted(chosen, key=lambda kind: kind.name in BUSY)
    numbers = {base + index: kind for index, kind in enumerate(in_order)}
    env = {
        "LEPTOND_QUEUE__CPU_SLOTS": str(len(chosen)),
        "LEPTOND_ENGINE__LINGER_S": "0.2",
        "LEPTOND_ENGINE__KILL_TIMEOUT_S": "20",
        "LEPTOND_ENGINE__CONTAINMENT": "descendants",
    }
    with contextlib.ExitStack() as close:
        if with_cgroup:
            root = close.enter_context(cgroup())
            env |= {"LEPTOND_ENGINE__CONTAINMENT": "cgroup", "LEPTOND_ENGINE__CGROUP_ROOT": str(root)}
        daemon = Daemon(place / "s", "--simulate-gpus", "1", env=env)
        daemon.start()
        close.callback(daemon.close)
        jobs: dict[int, int] = {}
        for number, kind in numbers.items():
            ready = place / f"ready-{number}"
            spec: dict[str, Any] = {"grace_s": 0.2, "requeue": False, "log_max_bytes": 65536}
            if not kind.ends and dice.random() < 0.5:
                spec["time_limit_s"] = LIMIT_S
            else:
                spec["retry_on"] = []
            jobs[number] = daemon.submit(
                *on_leash(number, kind.command(ready, build)),
                name=kind.name,
                no_retry_on=["external-kill"],
                **spec,
            )
        failures: list[str] = []
        for number, job in reversed(jobs.items()):
            kind = numbers[number]
            limited = daemon.job(job)["time_limit_s"] is not None
            if not kind.ends and not limited:
                until((place / f"ready-{number}").exists, f"{kind.name} comes up")
            if not kind.ends and not limited:
                daemon.post(f"/v1/jobs/{job}/cancel", {"grace_s": 0.2})
        for number, job in jobs.items():
            kind = numbers[number]
            done = daemon.finished(job)
            wanted = kind.state if kind.ends else "cancelled" if done["time_limit_s"] is None else "timed_out"
            if done["state"] != wanted:
                failures.append(f"{kind.name}: {done['state']} instead of {wanted}: {done['explanation']}")
        left = survivors(set(numbers))
        failures += [f"{numbers[number].name}: pid {pid} {how}" for pid, number, how in left]
        if with_cgroup:
            groups = [path.name for path in root.glob("leptond-*")]
            failures += [f"cgroup left: {name}" for name in groups]
        return Found(count=len(chosen), failures=len(failures), why="\n".join(failures))


def survivors(numbers: set[int]) -> list[tuple[int, int, str]]:
    """Pid, leash and "alive" or "zombie" of what is still there when the time to settle is over."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        alive, zombies = leashed(numbers)
        if not alive and not zombies:
            return []
        if time.monotonic() > deadline:
            return [(pid, number, "alive") for pid, number in alive.items()] + [
                (pid, number, "zombie") for pid, number in zombies.items()
            ]
        time.sleep(0.05)


def no_cgroup() -> str:
    """Why there can be no cgroup of our own here; empty when there can."""
    mount = _mount()
    if mount is None:
        return "no cgroup v2"
    return "" if os.access(mount / "cgroup.procs", os.W_OK) else "the cgroup v2 hierarchy is not writable"


@contextlib.contextmanager
def cgroup() -> Iterator[Path]:
    """A cgroup that belongs to the test alone."""
    mount = _mount()
    assert mount is not None
    root = Path(tempfile.mkdtemp(prefix="leptond-test-", dir=mount))
    try:
        yield root
    finally:
        for path, _, _ in os.walk(root, topdown=False):
            with contextlib.suppress(OSError):
                Path(path).rmdir()


def _mount() -> Path | None:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(point)
    return None
