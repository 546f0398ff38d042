"""Promise 2: the daemon, and separately its shims, killed at every durable or process system call of a fixed
scenario of thirty jobs, and at every one of a recovery.

One trial is one crash point k: the library of preload/ counts the calls and ends the process at the k-th;
then the daemon is started soundly, the scenario goes on, the queue drains, and the one checker looks. The
first run only counts, which tells N; a trial whose run ends before its k counts for nothing.

Of the writes to the database or its log between two syncs of it, the first two are crash points: a process
killed at a later one leaves the same unfinished transaction, only longer. (The kill before the sync, with
all of it written, is a point of its own.) The campaign "crash-points-every-write" counts each.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.faults.campaign import Found, Outcome, campaign, run_points, run_trials
from tests.faults.rig import Rig, Templates
from tests.faults.template import why_not
from tests.support.daemon import until

PARALLEL = 2

Crash = Callable[[Rig, int], None]
"""Brings a rig to its crash at point k (0: only counts)."""


def daemon_crash(rig: Rig, k: int, **more: str) -> None:
    """The daemon dies at its k-th call."""
    rig.arm("daemon", k, **more)
    if rig.start_faulty():
        rig.go_on()


def shim_crash(rig: Rig, k: int, **more: str) -> None:
    """The shim that makes the k-th call of all shims dies."""
    rig.arm("shim", k, **more)
    if rig.start_faulty():
        rig.go_on()


def both_crash(rig: Rig, k: int) -> None:
    """A shim and the daemon die together at the shims' k-th call."""
    shim_crash(rig, k, PARENT="1")


def recovery_crash(rig: Rig, k: int) -> None:
    """A daemon with work of all kinds dies; the one that recovers from that dies at its k-th call."""
    daemon, scenario = rig.daemon, rig.scenario
    steps = scenario.steps()
    daemon.start()
    while scenario.done < 12:
        steps[scenario.done](daemon)
        scenario.done += 1
    (victim,) = scenario.jobs["victim"]
    daemon.reached(victim, "running")
    daemon.kill()
    # what runs shortly ends while nobody looks
    until(lambda: any(rig.state.glob("jobs/*/*/exit.json")), "an exit record")
    daemon_crash(rig, k)


def crash_points(crash: Crash, trials: int, seed: int, workdir: Path) -> Outcome:
    """All k from 1 to N, or `trials` of them evenly spread."""
    if why_not():
        return Outcome(trials=0, failures=0, skipped=why_not())
    templates = Templates()
    try:

        def count(dice: random.Random, place: Path) -> Found:
            with templates.rig(place) as rig:
                crash(rig, 0)
                calls, kinds = rig.counted, rig.sites()
                rig.recover()
            return Found(figures={"calls": calls}, notes={f"kind {kind}": "seen" for kind in kinds})

        def one(k: int, place: Path) -> Found:
            with templates.rig(place) as rig:
                if k % 2:
                    rig.plain_order()
                if k % 16 in (0, 5):  # it takes three times as long
                    rig.cold_shims()
                crash(rig, k)
                fired = rig.fired
                rig.recover()
                return Found(
                    count=fired, figures={"fired": fired}, notes={"site": rig.site(k)} if fired else {}
                )

        counting = run_trials(count, 1, seed, workdir / "count")
        assert not counting.failures, f"the scenario fails without a crash: {workdir / 'count'}"
        total = counting.figures["calls"]
        kinds = {name.removeprefix("kind ") for name in counting.figures if name.startswith("kind ")}
        # runs differ a little: the last may have more calls than the first
        last = total + max(5, total // 20)
        points = list(range(1, last + 1))
        if trials < total:
            step = total / trials
            points = sorted({1 + int(number * step) for number in range(trials)})

        outcome = run_points(one, points, seed, workdir, parallel=PARALLEL)
    finally:
        templates.close()
    hit = kinds & set(outcome.figures.get("site", {}))
    fired = outcome.figures.get("fired", 0)
    return replace(
        outcome,
        figures={"calls": total, "fired": fired, "kinds": len(kinds), "kinds_hit": len(hit)},
        coverage=f"{fired} crash points: every k to the end of its run"
        if trials >= total
        else f"{fired} crash points of about {total}",
    )


@campaign("P2", title="Daemon killed at every call", short=6, full=100_000)
def crash_points_daemon(trials: int, seed: int, workdir: Path) -> Outcome:
    return crash_points(daemon_crash, trials, seed, workdir)


@campaign("P2", title="Shim killed at every call", short=6, full=100_000)
def crash_points_shim(trials: int, seed: int, workdir: Path) -> Outcome:
    return crash_points(shim_crash, trials, seed, workdir)


@campaign("P2", title="Daemon killed at every call of its recovery", short=4, full=100_000)
def crash_points_recovery(trials: int, seed: int, workdir: Path) -> Outcome:
    return crash_points(recovery_crash, trials, seed, workdir)


@campaign("P2", title="Shim and daemon killed together at every call of the shim", short=4, full=100_000)
def crash_points_both(trials: int, seed: int, workdir: Path) -> Outcome:
    return crash_points(both_crash, trials, seed, workdir)


KINDS = dict(
    write=("pwrite", "write", "fallocate"),
    sync=("fdatasync", "fsync"),
    create=("open",),
    rename=("rename",),
    truncate=("ftruncate",),
    unlink=("unlink",),
    mkdir=("mkdir",),
    spawn=("posix_spawn", "fork"),
    signal=("kill", "pidfd_send_signal"),
    send=("send", "sendmsg"),
)
"""The names of calls that the library's CALLS stands for."""
OCCURRENCES = 3


def by_kind(kind: str) -> dict[str, str]:
    """The library's settings that let only calls of a kind (``rename jobs/N/N/stop.json``) count."""
    call, _, path = kind.partition(" ")
    calls = "send" if path == "socket" else next(name for name, calls in KINDS.items() if call in calls)
    name = path.rpartition("/")[2]
    only = {"-": "", "socket": "", "state directory": "/s", "N": "/s/jobs/"}.get(name, name)
    return {"CALLS": calls, "ONLY": only}


@campaign("P2", title="Daemon and shim killed at every kind of call", short=0, full=OCCURRENCES)
def crash_points_kinds(trials: int, seed: int, workdir: Path) -> Outcome:
    """What is rare may slip through the count of all calls, because runs differ a little: here each kind is
    counted by itself, and its first `trials` calls are crash points."""
    if why_not():
        return Outcome(trials=0, failures=0, skipped=why_not())
    templates = Templates()

    def count(dice: random.Random, place: Path) -> Found:
        notes = {}
        for who, crash in (("daemon", daemon_crash), ("shim", shim_crash)):
            (place / who).mkdir()
            with templates.rig(place / who) as rig:
                crash(rig, 0)
                notes |= {f"{who} {kind}": "seen" for kind in rig.sites()}
                rig.recover()
        return Found(notes=notes)

    try:
        counting = run_trials(count, 1, seed, workdir / "count")
        assert not counting.failures, f"the scenario fails without a crash: {workdir / 'count'}"
        kinds = sorted(counting.figures)

        def one(number: int, place: Path) -> Found:
            who, _, kind = kinds[number % len(kinds)].partition(" ")
            crash = daemon_crash if who == "daemon" else shim_crash
            with templates.rig(place) as rig:
                crash(rig, 1 + number // len(kinds), **by_kind(kind))
                fired = rig.fired
                rig.recover()
                note = {"kind": f"{who} {kind}"} if fired else {}
                return Found(count=fired, figures={"fired": fired}, notes=note)

        points = range(len(kinds) * trials)
        outcome = run_points(one, points, seed, workdir, parallel=PARALLEL)
    finally:
        templates.close()
    hit = outcome.figures.get("kind", {})
    return replace(
        outcome,
        figures={"kinds": len(kinds), "kinds_hit": len(hit), "fired": outcome.figures.get("fired", 0)},
        coverage=f"{len(hit)} of {len(kinds)} kinds of call, up to {trials} of each",
    )


@campaign("P2", title="Daemon killed at every single write", short=0, full=100_000)
def crash_points_every_write(trials: int, seed: int, workdir: Path) -> Outcome:
    return crash_points(lambda rig, k: daemon_crash(rig, k, RUNS="0"), trials, seed, workdir)
