"""Trainings that are killed at random moments, through the real daemon: they end as one that nobody touched.

    python -m tests.train.kills [--kills 50] [--ranks 1] [--plan dp=2] [--only job,shim] [--seed 1] [--jobs 2]

The kinds of kill, in turn: SIGKILL of the job (of any of its processes, under torchrun), of its shim, of the
daemon (which is started again), preemption by an urgent job, and the time limit (with ``retry_on: timeout``).
A trial is one training with one kill. Prints a table; the exit code is 1 when a training ended otherwise, or
did a step again that was in a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from leptond.client.torchrun import under_torchrun
from tests.faults.campaign import Found, commit, run_points
from tests.support.daemon import TERMINAL, Daemon, alive_with_cookie, parent_of

KINDS = ("job", "shim", "daemon", "preempt", "limit")
TOP = Path(__file__).parents[2]
STEPS, EVERY, PAUSE_S = 60, 3, 0.02
PATIENCE_S = 240.0
"""How long anything may take: on a busy machine two ranks import torch for a minute."""
EARLY = 0.15
"""Share of the kills that come anywhere in an attempt, its start included; the others come in its steps."""
TOLERANCE = 1e-6
"""Of several ranks, relative to the largest weight: sums may go in another order."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """The training that nobody touched: its weights; seconds to its first step, and from there to its end."""

    weights: dict[str, Tensor]
    start_s: float
    run_s: float


class Victim:
    """A training, as a job of a daemon of its own."""

    def __init__(self, place: Path, ranks: int, plan: str) -> None:
        self.place, self.ranks, self.plan = place, ranks, plan
        self.log, self.result = place / "log", place / "result.pt"
        self.daemon = Daemon(
            place / "s",
            env={
                "LEPTOND_GPUS__BACKEND": "simulated",
                "LEPTOND_GPUS__SIMULATE": str(ranks),
                "LEPTOND_PLANNER__CLASS_GPU_S": "0",
                "LEPTOND_PLANNER__MIN_RUN_S": "0",
                "LEPTOND_PLANNER__MIN_RUN_FACTOR": "0",
            },
        )
        self.daemon.start()
        self.number = 0

    def submit(
        self, time_limit_s: float = 3600.0, pause_s: float = PAUSE_S, *, limited: bool = False
    ) -> None:
        """Puts it into the queue; its first attempt rests for `pause_s` in every step. `limited`: it is
        retried when it ran into its limit, and not before :meth:`limited` says so."""
        argv = [sys.executable, "-m", "tests.train.victim", str(self.log), str(self.result)]
        argv += [
            "--steps",
            str(STEPS),
            "--every",
            str(EVERY),
            "--pause",
            str(PAUSE_S),
            "--first-pause",
            str(pause_s),
        ]
        if self.ranks > 1:
            argv = under_torchrun([*argv, "--plan", self.plan], self.ranks)
        self.number = self.daemon.submit(
            *argv,
            cwd=str(TOP),
            env={"OMP_NUM_THREADS": "1"},
            gpus=self.ranks,
            preemptible=True,
            retries=20,
            retry_delay_s=60.0 if limited else 0.1,
            retry_on=["timeout"] if limited else [],
            time_limit_s=time_limit_s,
        )

    # -- what it says ------------------------------------------------------------------------------

    def noted(self) -> list[tuple[int, str, int]]:
        """The lines of its log."""
        return noted(self.log)

    def ended(self) -> bool:
        """Whether the job has."""
        return self.daemon.job(self.number)["state"] in TERMINAL

    def in_its_steps(self) -> None:
        """Waits until the present attempt has done a step, or the job has ended."""
        attempt = self.daemon.job(self.number)["attempt"]
        until(lambda: any(a >= attempt and what == "done" for a, what, _ in self.noted()) or self.ended())

    def finished(self) -> dict[str, Any]:
        """The job, when it has succeeded."""
        begin = time.monotonic()
        while time.monotonic() < begin + PATIENCE_S:
            found: dict[str, Any] = self.daemon.get(f"/v1/jobs/{self.number}?wait_s=20").json
            if found["state"] in TERMINAL:
                break
        assert found["state"] == "succeeded", (found, self.daemon.output(self.number)[-3000:])
        return found

    # -- the kills ---------------------------------------------------------------------------------

    def kill(self, kind: str, dice: random.Random) -> bool:
        """Kills now; whether there was something to kill."""
        attempt = self.daemon.job(self.number)["attempts"][-1]
        try:
            match kind:
                case "job":
                    os.kill(self._any_process(attempt, dice), signal.SIGKILL)
                case "shim":
                    os.kill(parent_of(attempt["pid"]), signal.SIGKILL)
                case "daemon":
                    self.daemon.kill()
                    self.daemon.start()
                case "preempt":
                    urgent = self.daemon.submit(
                        "true", gpus=self.ranks, urgent=True, priority=100, time_limit_s=30.0
                    )
                    assert self.daemon.finished(urgent)["state"] == "succeeded"
        except (ProcessLookupError, FileNotFoundError):
            return False
        if kind in ("job", "shim"):
            until(lambda: self.daemon.job(self.number)["attempts"][attempt["number"] - 1]["ended_at"])
        return True

    def limited(self) -> bool:
        """Waits for the end of the first attempt; whether that was its time limit. There is none any more for
        the next one, which starts at once."""
        first = until(
            lambda: (one := self.daemon.job(self.number)["attempts"]) and one[0]["ended_at"] and one[0]
        )
        if first["class"] != "timeout":
            return False
        path = f"/v1/jobs/{self.number}"
        assert self.daemon.request("PATCH", path, {"time_limit_s": 3600.0}).status == 200
        assert self.daemon.post(f"{path}/retry").status == 200
        return True

    def _any_process(self, attempt: dict[str, Any], dice: random.Random) -> int:
        """One of the attempt's own processes: the launcher, or a rank."""
        mine = {pid for pid in alive_with_cookie({attempt["id"]}) if pid != parent_of(attempt["pid"])}
        return dice.choice(sorted(mine | {attempt["pid"]}))


def noted(log: Path) -> list[tuple[int, str, int]]:
    """The lines of a victim's log: attempt, what, and a number."""
    if not log.exists():
        return []
    lines = (line.split() for line in log.read_text().splitlines())
    return [(int(attempt), what, int(number)) for attempt, what, number in lines]


def until(true: Callable[[], Any]) -> Any:
    """The first true value of `true()`, looked at again and again."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if value := true():
            return value
        time.sleep(0.02)
    raise AssertionError("it does not come true")


def undisturbed(place: Path, ranks: int, plan: str) -> Whole:
    """The training as it is when nobody touches it."""
    one = Victim(place, ranks, plan)
    try:
        began = time.monotonic()
        one.submit()
        one.in_its_steps()
        first = time.monotonic()
        one.finished()
        ended = time.monotonic()
    finally:
        one.daemon.close()
    return Whole(weights=torch.load(one.result), start_s=first - began, run_s=ended - first)


def trial(
    whole: Whole, ranks: int, plan: str, kinds: tuple[str, ...], dice: random.Random, place: Path
) -> Found:
    """One training with a kill of each of `kinds`, at moments that `dice` choose."""
    one = Victim(place, ranks, plan)
    hits: dict[str, int] = dict.fromkeys(kinds, 0)
    try:
        if kinds == ("limit",):
            limit_s = whole.start_s + dice.uniform(0.1, 0.9) * whole.run_s
            # however busy the machine was before and is now, it does not end before its limit
            one.submit(limit_s, limit_s / STEPS, limited=True)
            hits["limit"] += one.limited()
        else:
            one.submit()
            for kind in kinds:
                if dice.random() < EARLY:
                    one.daemon.reached(one.number, "running")
                    moment = dice.uniform(0, whole.start_s)
                else:
                    one.in_its_steps()
                    moment = dice.uniform(0, 0.9 * whole.run_s / len(kinds))
                time.sleep(moment)  # any is right
                hits[kind] += one.kill(kind, dice)
        found = one.finished()
        classes = {attempt["class"] for attempt in found["attempts"]}
        if "preempted" not in classes and "preempt" in kinds:
            hits["preempt"] = 0  # it was over before there was room to make
        outcome = judge(one.noted(), torch.load(one.result), whole, exact=ranks == 1)
        if "daemon" in kinds and len(kinds) == 1:
            assert len(found["attempts"]) == 1, "a job outlives its daemon"
    finally:
        one.daemon.close()
    figures = {f"{kind} {name}": value for kind in kinds for name, value in outcome.items()}
    figures |= {f"{kind} kills": number for kind, number in hits.items()}
    return Found(count=sum(hits.values()), figures=figures, notes={"classes": ", ".join(sorted(classes))})


def judge(
    noted: list[tuple[int, str, int]], weights: dict[str, Tensor], whole: Whole, *, exact: bool
) -> dict[str, float]:
    """Raises AssertionError where a step in a checkpoint was done again, one was left out, or the weights are
    others. Figures: steps that were done again, torn checkpoints that were found, bits that are equal."""
    again = torn = done = saved = 0
    for attempt, what, number in noted:
        match what:
            case "torn":
                torn += number
            case "start":
                # a checkpoint may be on disk before its line is in the log
                assert saved <= number <= done, f"attempt {attempt} begins at {number}; saved was {saved}"
                again += done - number
                done = number
            case "done":
                assert number == done + 1, f"attempt {attempt}: step {number} after {done}"
                done = number
            case "saved":
                saved = max(saved, number)
    assert done == STEPS
    assert weights.keys() == whole.weights.keys()
    pairs = [(weights[name], wanted) for name, wanted in whole.weights.items()]
    equal = all(torch.equal(got, wanted) for got, wanted in pairs)
    largest = max(float(wanted.abs().max()) for _, wanted in pairs)
    off = max(float((got - wanted).abs().max()) for got, wanted in pairs) / largest
    assert equal or not exact, f"the weights differ by {off:.2g} of the largest"
    assert off <= TOLERANCE, f"the weights differ by {off:.2g} of the largest"
    return {"done again": again, "torn": torn, "equal": int(equal), "trainings": 1, "off": off}


def campaign(
    kills: int,
    ranks: int,
    plan: str,
    seed: int,
    workdir: Path,
    *,
    kinds: tuple[str, ...] = KINDS,
    parallel: int = 1,
) -> list[dict[str, Any]]:
    """The finished trials, until there are so many kills of `kinds` in turn."""
    with tempfile.TemporaryDirectory(prefix="lept-", ignore_cleanup_errors=True) as place:
        whole = undisturbed(Path(place), ranks, plan)

    def by_index(index: int, place: Path) -> Found:
        mine = (kinds[index % len(kinds)],)
        return trial(whole, ranks, plan, mine, random.Random(f"{seed}/{index}"), place)

    lines: list[dict[str, Any]] = []
    points = kills
    while True:
        run_points(by_index, range(points), seed, workdir, parallel=parallel)
        lines = [json.loads(line) for line in (workdir / "trials.jsonl").read_text().splitlines()]
        missing = kills - sum(line["count"] for line in lines)
        if missing <= 0 or any(line["failures"] for line in lines):
            return lines
        points += missing  # some came when the training was over


def show(lines: list[dict[str, Any]], ranks: int, plan: str) -> None:
    """The table."""
    what = f"{plan}, {ranks} ranks" if ranks > 1 else "one process"
    table = Table(title=f"trainings killed at random moments ({what}) at {commit()}", title_justify="left")
    for head in ("kill", "kills", "trainings", "equal in every bit", "largest difference", "steps again",
                 "torn checkpoints found"):  # fmt: skip
        table.add_column(head, justify="left" if head == "kill" else "right")
    for kind in (*KINDS, ""):
        of = [line["figures"] for line in lines if kind == "" or f"{kind} kills" in line["figures"]]

        def values(name: str, of: list[dict[str, Any]] = of) -> list[float]:
            return [value for one in of for key, value in one.items() if key.partition(" ")[2] == name]

        if of:
            row = [sum(values(name)) for name in ("kills", "trainings", "equal", "done again", "torn")]
            most = max(values("off"), default=0.0)
            table.add_row(
                kind or "all", *(f"{n:.0f}" for n in row[:3]), f"{most:.1g}", *(f"{n:.0f}" for n in row[3:])
            )
    Console(width=120).print(table)
    for line in lines:
        if line["failures"]:
            print(f"trial {line['index']} failed:\n{line['why']}")


def main(argv: list[str] | None = None) -> int:
    """Runs what is asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.train.kills", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--plan", default="", help="for several ranks [dp=RANKS]")
    parser.add_argument("--only", default=",".join(KINDS), help=f"kinds of kill [{','.join(KINDS)}]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--workdir", type=Path, help="where failed trials leave their files")
    options = parser.parse_args(argv)
    kinds = tuple(options.only.split(","))
    if not set(kinds) <= set(KINDS):
        parser.error(f"--only {options.only}: the kinds are {', '.join(KINDS)}")
    plan = options.plan or f"dp={options.ranks}"
    workdir = options.workdir or Path(tempfile.mkdtemp(prefix="kills-"))
    run: Callable[[], list[dict[str, Any]]] = partial(
        campaign, options.kills, options.ranks, plan, options.seed, workdir, kinds=kinds,
        parallel=options.jobs,
    )  # fmt: skip
    lines = run()
    show(lines, options.ranks, plan)
    return 1 if any(line["failures"] for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
