"""Promises 7 and 8: calls to the disk that fail. One trial is one call n: from there on the disk is full
until somebody makes room, or that one call fails with EIO, is interrupted or does half of its work, or syncs
fail from there on. The daemon goes on or ends by itself with a code of its own; a submit that was answered
is kept, every job comes to its end, and no job is killed or loses its exit code.
"""

from __future__ import annotations

import contextlib
import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.faults.campaign import Found, Outcome, campaign, run_points, run_trials
from tests.faults.rig import Rig, Templates
from tests.faults.scenario import Crashed, drained
from tests.faults.template import why_not
from tests.support.daemon import gone

PARALLEL = 2
FULL_S = 0.5
"""How long the fault stays, from its first call on."""
GIVE_UP_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What fails, in whose calls ("daemon", "shim", "both"), on which paths (`only`: a part of them)."""

    error: str
    calls: str
    who: str
    sticky: bool = False
    only: str = ""


def arm(rig: Rig, fault: Fault, n: int, **more: str) -> None:
    """The next start of the daemon meets the fault at the n-th of such calls (0: only counts them)."""
    settings = {
        "MODE": "error",
        "ERROR": fault.error,
        "CALLS": fault.calls,
        "ONLY": fault.only,
        "STICKY": "1" if fault.sticky else "0",
        **more,
    }
    if fault.calls == "spawn":
        rig.cold_shims()  # else the daemon makes one process, and that one all others
    rig.arm("shim" if fault.who == "both" else fault.who, n, **settings)
    rig.daemon.arm = fault.who != "shim"


def heal(rig: Rig) -> None:
    """Nothing fails any more."""
    with rig.counter.open("r+b") as file:
        file.seek(16)
        file.write(b"\1")


def suffer(rig: Rig, fault: Fault, n: int, **more: str) -> dict[str, str]:
    """One run with the fault; how it went."""
    arm(rig, fault, n, **more)
    daemon, scenario = rig.daemon, rig.scenario
    seen = {"daemon": "went on"}
    with healing(rig):
        if rig.start_faulty():
            begin = time.monotonic()
            while True:
                try:
                    scenario.drive(daemon)
                    drained(daemon)
                except Crashed as crash:
                    if daemon.process is None or gone(daemon.process.pid, 0.1):
                        break
                    seen["refusal"] = refusal(crash)
                    if time.monotonic() - begin > GIVE_UP_S:
                        raise AssertionError(f"it refuses for ever: {crash.__cause__}") from crash
                else:
                    daemon.process.terminate()  # type: ignore[union-attr]
                    break
    process = daemon.process
    assert process is not None
    assert gone(process.pid, GIVE_UP_S), "the daemon neither answers nor ends"
    code = process.poll()
    assert code is not None
    assert code >= 0, f"the daemon ended by signal {signal.Signals(-code).name}:\n{daemon.tail()}"
    if code:
        seen["daemon"] = f"ended with {code}"
        assert rig.fired, f"the daemon ended with {code} without a fault:\n{daemon.tail()}"
    return seen


def refusal(crash: Crashed) -> str:
    """The status of the answer, or "cut" where there was none."""
    found = re.search(r"refused: (\d+)", str(crash.__cause__))
    return found[1] if found else "cut"


@contextlib.contextmanager
def healing(rig: Rig) -> Iterator[None]:
    """The fault ends FULL_S after it began, and with the block."""
    over = threading.Event()

    def watch() -> None:
        while not rig.fired:
            if over.wait(0.02):
                return
        over.wait(FULL_S)
        heal(rig)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        heal(rig)


def errors(fault: Fault, trials: int, seed: int, workdir: Path) -> Outcome:
    """Every n from 1 to N, or `trials` of them evenly spread."""
    if why_not():
        return Outcome(trials=0, failures=0, skipped=why_not())
    templates = Templates()

    def count(dice: random.Random, place: Path) -> Found:
        with templates.rig(place) as rig:
            suffer(rig, fault, 0)
            daemon_calls = rig.counted
            rig.recover()
            return Found(figures={"calls": daemon_calls})

    def one(n: int, place: Path) -> Found:
        with templates.rig(place) as rig:
            seen = suffer(rig, fault, n)
            fired = rig.fired
            rig.recover()
            return Found(count=min(1, fired), figures={"fired": min(1, fired)}, notes=seen if fired else {})

    try:
        counting = run_trials(count, 1, seed, workdir / "count")
        assert not counting.failures, f"the scenario fails without a fault: {workdir / 'count'}"
        total = counting.figures["calls"]
        points = list(range(1, total + max(5, total // 20) + 1))
        if trials < total:
            points = sorted({1 + number * total // trials for number in range(trials)})
        outcome = run_points(one, points, seed, workdir, parallel=PARALLEL)
    finally:
        templates.close()
    figures = {"calls": total, **outcome.figures}
    return replace(
        outcome, figures=figures, coverage=f"{outcome.figures.get('fired', 0)} calls of {total} counted"
    )


def register(name: str, promise: str, title: str, fault: Fault, *, short: int) -> None:
    """A campaign for a kind of fault."""

    def run(trials: int, seed: int, workdir: Path) -> Outcome:
        return errors(fault, trials, seed, workdir)

    campaign(promise, name=name, title=title, short=short, full=100_000)(run)


register(
    "disk-full",
    "P7",
    "Disk full from the n-th write on, for daemon and jobs",
    Fault(error="ENOSPC", calls="write,create,mkdir,truncate", who="both", sticky=True),
    short=3,
)
register(
    "disk-full-once",
    "P7",
    "No room for one write of the daemon",
    Fault(error="ENOSPC", calls="write,create,mkdir,truncate", who="daemon"),
    short=2,
)
register(
    "io-error-daemon",
    "P8",
    "EIO at the n-th call of the daemon",
    Fault(error="EIO", calls="write,sync,create,rename,truncate,unlink,mkdir", who="daemon"),
    short=3,
)
register(
    "io-error-shim",
    "P8",
    "EIO at the n-th call of the shims",
    Fault(error="EIO", calls="write,sync,create,rename,truncate,unlink,mkdir", who="shim"),
    short=2,
)
register(
    "io-sync-fails",
    "P8",
    "Syncs of the daemon fail from the n-th on",
    Fault(error="EIO", calls="sync", who="daemon", sticky=True),
    short=3,
)
register(
    "io-short-write",
    "P8",
    "Half of the n-th write is done",
    Fault(error="SHORT", calls="write", who="both"),
    short=2,
)
register(
    "io-interrupted",
    "P8",
    "The n-th call is interrupted (EINTR)",
    Fault(error="EINTR", calls="write,sync,create", who="both"),
    short=2,
)
register(
    "spawn-fails",
    "P8",
    "The n-th process cannot be made",
    Fault(error="EIO", calls="spawn", who="both"),
    short=2,
)
