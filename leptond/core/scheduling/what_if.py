"""Comparison of policies on past jobs: the planner itself, simulated over their real arrivals and run times.

GPUs are taken as alike, the attempts of a job as one run, and no job is preempted. So it compares orders and
reservations, which are what a policy without preemption decides."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import msgspec

from leptond.core.accounting.report_types import Comparison, LedgerHistory
from leptond.core.jobs.model import Gpu
from leptond.core.scheduling.planner import CarriedState, PlanInput, Policy, Running, Waiting, plan

MAX_JOBS = 1000
"""Most jobs in one simulation, so that a report takes no longer than seconds."""


class PastRun(msgspec.Struct, frozen=True, kw_only=True):
    """A past job: from when it could start (`ready_at`, UTC seconds), its GPUs, run time and time limit in
    seconds."""

    id: int
    ready_at: float
    gpus: int
    run_s: float
    limit_s: float | None = None
    priority: int = 0
    user: str = ""
    project: str | None = None


class PolicyResult(msgspec.Struct, frozen=True, kw_only=True):
    """`jct_s`: mean time from ready to end. `idle_gpu_s`: GPU time that was free while jobs waited."""

    jct_s: float
    idle_gpu_s: float


def simulate(runs: Sequence[PastRun], gpus: int, policy: Policy) -> PolicyResult:
    """Simulate `runs` on a machine of `gpus` GPUs under `policy`. Raises ValueError for a run that does not
    fit."""
    devices = [Gpu(uuid=f"GPU-{i:03}", index=i, name="", memory_bytes=1) for i in range(gpus)]
    arrivals = sorted(runs, key=lambda run: (run.ready_at, run.id), reverse=True)
    by_id = {run.id: run for run in runs}
    waiting: dict[int, Waiting] = {}
    running: dict[int, Running] = {}
    ends: list[tuple[float, int]] = []
    carried = CarriedState()
    now = wake = arrivals[-1].ready_at if arrivals else 0.0
    spent_s = idle_gpu_s = 0.0
    while arrivals or waiting or running:
        due = [arrivals[-1].ready_at] if arrivals else []
        due += [ends[0][0]] if ends else []
        due += [wake] if waiting and wake > now else []
        if not due:
            raise ValueError("a job does not fit the machine")
        at = min(due)
        free = gpus - sum(len(job.gpus) for job in running.values())
        idle_gpu_s += free * (at - now) if waiting else 0.0
        now = at
        while ends and ends[0][0] <= now:
            _, number = heapq.heappop(ends)
            del running[number]
            spent_s += now - by_id[number].ready_at
        while arrivals and arrivals[-1].ready_at <= now:
            run = arrivals.pop()
            waiting[run.id] = _waiting(run)
        inputs = PlanInput(
            waiting=list(waiting.values()),
            running=list(running.values()),
            gpus=devices,
            cpu_slots=0,
            now=now,
            policy=policy,
            carried=carried,
        )
        made = plan(inputs, explain=False)
        carried, wake = made.carried, made.wake_at if made.wake_at is not None else now
        for start in made.starts:
            asked, run = waiting.pop(start.id), by_id[start.id]
            running[start.id] = Running(
                id=start.id,
                gpus=start.gpus,
                user=asked.user,
                project=asked.project,
                priority=asked.priority,
                since=asked.since,
                started_at=now,
                limit_s=asked.limit_s,
            )
            heapq.heappush(ends, (now + run.run_s, run.id))
    return PolicyResult(jct_s=spent_s / len(runs) if runs else 0.0, idle_gpu_s=idle_gpu_s)


def _waiting(run: PastRun) -> Waiting:
    return Waiting(
        id=run.id,
        priority=run.priority,
        gpus=run.gpus,
        since=run.ready_at,
        user=run.user,
        project=run.project,
        limit_s=run.limit_s,
    )


def past_runs(history: LedgerHistory, begin: int, end: int) -> list[PastRun]:
    """Return the jobs that began and ended within [begin, end) in ms, each as one run."""
    spans: dict[int, list[int]] = {}
    for number, record in enumerate(history.attempts):
        spans.setdefault(record.span.job, []).append(number)
    found = []
    for job, numbers in spans.items():
        records = [history.attempts[number] for number in numbers]
        first = min(records, key=lambda record: record.number)
        took = 0
        for record in records:
            if record.span.start is None:
                continue
            if record.span.end is None or record.span.start < begin or record.span.end > end:
                break
            took += record.span.end - record.span.start
        else:
            if took > 0 and first.number == 1 and first.submitted is not None:
                found.append(
                    PastRun(
                        id=job,
                        ready_at=first.submitted / 1000,
                        gpus=len(first.span.gpus),
                        run_s=took / 1000,
                        limit_s=max(first.limit_s, took / 1000) if first.limit_s is not None else None,
                        priority=first.priority,
                        user=first.user,
                        project=first.project,
                    )
                )
    return found


def compare_policies(
    history: LedgerHistory, begin: int, end: int, *, policy: Policy, other: Policy, price: float | None
) -> Comparison | None:
    """Compare `policy` with `other` on the jobs of a window; None without jobs, or with too many.

    `price`: of a GPU-hour, for the saved cost."""
    gpus = len(history.devices)
    runs = [run for run in past_runs(history, begin, end) if run.gpus <= gpus]
    if not runs or len(runs) > MAX_JOBS:
        return None
    mine, theirs = simulate(runs, gpus, policy), simulate(runs, gpus, other)
    saved = theirs.idle_gpu_s - mine.idle_gpu_s
    return Comparison(
        policy=policy.name,
        against=other.name,
        jobs=len(runs),
        jct_s=mine.jct_s,
        against_jct_s=theirs.jct_s,
        idle_gpu_seconds=mine.idle_gpu_s,
        against_idle_gpu_seconds=theirs.idle_gpu_s,
        saved_cost=saved / 3600 * price if price is not None else None,
    )
