"""Promise 11: of daemons that are started on one queue at the same time at most one schedules, by whatever
name they reach it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.faults.campaign import Found, Outcome, campaign, run_trials
from tests.support.daemon import Daemon, until

ALIASES = ("same", "symlink", "bind", "hardlink", "copy")


@campaign("P11", title="Two daemons started at once", short=2, full=100)
def double_starts(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is a pair on each kind of alias; the figures count pairs."""
    return run_trials(pairs, trials, seed, workdir)


def pairs(dice: random.Random, place: Path, *, kinds: tuple[str, ...] = ALIASES) -> Found:
    """A pair of daemons for each kind, started from a barrier."""
    skipped = 0
    latest = 0.0
    for kind in kinds:
        if kind == "bind" and not _can_mount():
            skipped += 1
            continue
        here = place / kind
        here.mkdir()
        latest = max(latest, one_pair(dice, here, kind))
    notes = {"loser_gone": "in 1 s of the winner" if latest <= 1 else "later"}
    return Found(count=len(kinds) - skipped, figures={"without_bind_mount": skipped}, notes=notes)


def one_pair(dice: random.Random, place: Path, kind: str) -> float:
    """Seconds from the winner being ready to the loser's end (negative: it ended before)."""
    first = Daemon(place / "s", "--simulate-gpus", "1")
    first.start()
    job = first.submit("true", hold=True)
    first.terminate()
    second = Daemon(alias(place, kind), "--simulate-gpus", "1")
    second.log = place / "second.log"
    second.socket = place / "second.sock"
    second.options = (*second.options, "--socket", str(second.socket))
    both = [first, second]
    dice.shuffle(both)
    barrier = threading.Barrier(2)
    delay_s = dice.choice([0, 0, dice.uniform(0, 0.2)])
    try:
        threads = [
            threading.Thread(target=_launch, args=(daemon, barrier, delay_s * index))
            for index, daemon in enumerate(both)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        loser = until(lambda: next((one for one in both if _code(one) is not None), None), "one gives way")
        gone = time.monotonic()
        (winner,) = [one for one in both if one is not loser]
        if kind == "hardlink":
            # the database has two names, which is refused to whoever looks; nobody may run by both
            assert _code(loser) in (75, 78), loser.tail()
            if until(lambda: _code(winner) is not None or _is_ready(winner), "the other decides") and (
                _code(winner) is not None
            ):
                assert _code(winner) == 78
                return 0.0
        else:
            assert _code(loser) == 75, loser.tail()
        loser.process = None
        winner.ready()
        assert winner.process is not None
        if kind != "hardlink":
            assert f"pid {winner.process.pid}" in loser.tail(), loser.tail()
        assert "Traceback" not in loser.tail()
        assert winner.job(job)["held"]
        return gone - time.monotonic()
    finally:
        for daemon in both:
            if _code(daemon) is not None:
                daemon.process = None
            elif daemon.process is not None:
                daemon.terminate()
        if kind == "bind":
            subprocess.run(["umount", str(place / "alias")], check=False, timeout=60)


def alias(place: Path, kind: str) -> Path:
    """Another name of the state directory `place`/s, or a copy."""
    real, other = place / "s", place / "alias"
    if kind == "same":
        return real
    if kind == "symlink":
        other.symlink_to(real)
    elif kind == "copy":
        shutil.copytree(real, other, ignore=shutil.ignore_patterns("*.sock", "leptond.jobs"))
    else:
        other.mkdir(mode=0o700)
        if kind == "bind":
            subprocess.run(["mount", "--bind", str(real), str(other)], check=True, timeout=60)
        else:
            for file in real.glob("leptond.db*"):
                os.link(file, other / file.name)
    return other


def _can_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("mount") is not None and sys.platform == "linux"


def _launch(daemon: Daemon, barrier: threading.Barrier, delay_s: float) -> None:
    barrier.wait()
    time.sleep(delay_s)
    daemon.launch()


def _code(daemon: Daemon) -> int | None:
    return daemon.process.poll() if daemon.process is not None else None


def _is_ready(daemon: Daemon) -> bool:
    try:
        return daemon.get("/readyz").status == 200
    except OSError:
        return False
