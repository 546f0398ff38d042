"""The jobs of the demonstration, what must come of each, and the evidence that it did."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leptond.demo.sandbox import Checks, DemoJob, Sandbox

SCRIPT = Path(__file__).with_name("training.py")


def all_jobs(gpus: int) -> list[DemoJob]:
    """The jobs, for a machine with that many GPUs."""
    python = [sys.executable, str(SCRIPT), "--metrics-file", "METRICS"]
    ranks = min(2, gpus)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    train = DemoJob(
        name="train",
        shows="a language model learns Python from the standard library",
        argv=[*python, "--steps", "300", "--report-every", "30"],
        spec={"gpus": 1, "priority": 9},
        expected="succeeded",
        checks=lambda sandbox, job: _learned(sandbox, train, job),
    )
    flaky = DemoJob(
        name="flaky",
        shows="dies at step 25, is retried after a back-off, goes on from its checkpoint",
        argv=[*python, "--steps", "50", "--checkpoint-every", "10", "--fail-once-at-step", "25"],
        spec={"gpus": 1, "priority": 8, "retries": 3, "retry_delay_s": 2},
        expected="succeeded",
        checks=lambda sandbox, job: _continued(sandbox, flaky, job),
    )
    overrun = DemoJob(
        name="overrun",
        shows="runs into its limit, is told to stop, saves, leaves by itself",
        argv=[*python, "--steps", "100000", "--slow", "0.1"],
        spec={"gpus": 1, "priority": 7, "hold": True, "grace_s": 60},
        expected="timed_out",
        limit_by=train,
        checks=lambda sandbox, job: _saved(sandbox, overrun, job),
    )
    ddp = DemoJob(
        name="train-ddp",
        shows=f"the same training on {ranks} rank(s) by torchrun, as a gang of {ranks}",
        argv=[*torchrun, *python[1:], "--steps", "100", "--report-every", "20"],
        spec={"gpus": ranks, "priority": 6},
        expected="succeeded",
        checks=lambda sandbox, job: _together(sandbox, ddp, job, ranks),
    )
    typo = DemoJob(
        name="typo",
        shows="a mistake in the command: not worth a retry, although three were offered",
        argv=[*python, "--stepz", "10"],
        spec={"gpus": 1, "priority": 5, "retries": 3, "retry_delay_s": 1},
        expected="failed",
        checks=lambda sandbox, job: _refused(sandbox, typo, job),
    )
    demo_jobs = [train, flaky, overrun, ddp, typo]
    for priority in range(1, gpus + 3):
        short = DemoJob(
            name=f"short-p{priority}",
            shows="one of more jobs than there are GPUs",
            argv=[*python, "--steps", "10", "--seed", str(priority)],
            spec={"gpus": 1, "priority": priority - 10},
            expected="succeeded",
            checks=lambda sandbox, job: iter([("it ran once", len(job["attempts"]) == 1)]),
        )
        demo_jobs.append(short)
    return demo_jobs


def _learned(sandbox: Sandbox, demo_job: DemoJob, job: dict[str, Any]) -> Checks:
    reports = sandbox.reports(demo_job)
    yield "it reported its losses", len(reports) >= 2
    if len(reports) >= 2:
        first, last = reports[0]["held_out"], reports[-1]["held_out"]
        yield f"the held-out loss fell, {first:.2f} -> {last:.2f}", last < first - 0.2
    on_gpu = any("cuda" in report["device"] for report in reports)
    yield "it ran on the GPU that it was given", sandbox.simulated or on_gpu


def _together(sandbox: Sandbox, demo_job: DemoJob, job: dict[str, Any], ranks: int) -> Checks:
    reports = sandbox.reports(demo_job)
    yield f"it ran on {ranks} rank(s)", bool(reports) and {one["world_size"] for one in reports} == {ranks}
    if ranks > 1:
        yield "the ranks hold the same weights", "ranks hold the same weights" in sandbox.output(job, 1)
    yield f"it held {ranks} GPU(s) at once", len(job["attempts"][0]["gpus"]) == ranks


def _continued(sandbox: Sandbox, demo_job: DemoJob, job: dict[str, Any]) -> Checks:
    yield "first it failed, then it succeeded", [one["class"] for one in job["attempts"]] == ["user", "ok"]
    if len(job["attempts"]) < 2:
        return
    yield "the second attempt resumed from step 20", "resumed from step 20" in sandbox.output(job, 2)
    before = [one["loss"] for one in sandbox.reports(demo_job) if one["attempt"] == 1]
    after = [one["loss"] for one in sandbox.reports(demo_job) if one["attempt"] == 2]
    if before and after:
        curve = f"{before[0]:.2f} .. {before[-1]:.2f} | {after[0]:.2f} .. {after[-1]:.2f}"
        yield f"the loss curve goes on, {curve}", after[0] < before[0]


def _saved(sandbox: Sandbox, demo_job: DemoJob, job: dict[str, Any]) -> Checks:
    attempt = job["attempts"][0]
    yield "it was stopped by its limit", (attempt["class"], attempt["stop_reason"]) == ("timeout", "timeout")
    yield "it saved after the signal", "after SIGTERM" in sandbox.output(job, 1)
    yield "it did not have to be killed", attempt["signal"] is None


def _refused(sandbox: Sandbox, demo_job: DemoJob, job: dict[str, Any]) -> Checks:
    yield "it was tried once", [one["class"] for one in job["attempts"]] == ["config"]


def short_ones_by_priority(demo_jobs: Sequence[DemoJob], jobs: dict[int, dict[str, Any]]) -> bool:
    """Return True if the short jobs got their GPUs in the order of their priorities; two may get theirs at
    once."""
    short = [demo_job for demo_job in demo_jobs if demo_job.name.startswith("short-")]
    short.sort(key=lambda demo_job: -int(demo_job.spec["priority"]))
    claims = [str(jobs[demo_job.id]["attempts"][0]["claimed_at"]) for demo_job in short]
    return claims == sorted(claims)
