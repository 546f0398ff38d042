"""`leptond demo`: the main job on real input. A private daemon, real torch training as its jobs, and a
verdict on every outcome that comes from what the jobs did."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leptond.client.errors import ClientError
from leptond.demo.jobs import all_jobs, short_ones_by_priority
from leptond.demo.sandbox import DemoFailed, DemoJob, Sandbox


def run_demo(*, as_json: bool, simulate_gpus: int | None, keep: bool) -> int:
    """Run the demonstration; return 0 only if every outcome is what it should be."""

    def say(text: str) -> None:
        print(text, file=sys.stderr if as_json else sys.stdout, flush=True)

    if importlib.util.find_spec("torch") is None:
        say(
            "leptond: the demonstration trains with torch; install it beside leptond: pip install torch numpy"
        )
        return 1
    directory = Path(tempfile.mkdtemp(prefix="leptond-demo-"))
    sandbox = Sandbox(directory, simulate_gpus, say)
    try:
        sandbox.open()
        demo_jobs = all_jobs(len(sandbox.gpus))
        _introduce(sandbox, demo_jobs)
        sandbox.submit(demo_jobs)
        sandbox.watch(demo_jobs)
        result = _judge(sandbox, demo_jobs)
    except (DemoFailed, ClientError) as error:
        say(f"leptond: {error}")
        keep = True
        return 1
    finally:
        sandbox.close()
        if keep:
            say(f"the files are in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    if as_json:
        print(json.dumps(result))  # noqa: T201
    else:
        _print_table(result, sandbox)
    return 0 if result["ok"] else 1


def _introduce(sandbox: Sandbox, demo_jobs: Sequence[DemoJob]) -> None:
    first = sandbox.gpus[0]
    kind = f"{len(sandbox.gpus)} x {first['name']}"
    sandbox.say(
        f"A private leptond with {kind}"
        + (" (no real one here: torch runs on the CPU)." if sandbox.simulated else ".")
    )
    sandbox.say(f"{len(demo_jobs)} jobs for {len(sandbox.gpus)} GPUs, queued in one call:")
    for demo_job in demo_jobs:
        sandbox.say(f"  {demo_job.name:<12} {demo_job.shows}")
    sandbox.say("")


def _judge(sandbox: Sandbox, demo_jobs: Sequence[DemoJob]) -> dict[str, Any]:
    """The result as data: for every job what it did, what it should have done, and each check."""
    jobs = {demo_job.id: sandbox.api.get(f"/v1/jobs/{demo_job.id}") for demo_job in demo_jobs}
    shown = []
    for demo_job in demo_jobs:
        job = jobs[demo_job.id]
        checks = [(f"it {demo_job.expected.replace('_', ' ')}", job["state"] == demo_job.expected)]
        if job["attempts"]:
            checks += demo_job.checks(sandbox, job)
        if demo_job.name == "short-p1":
            checks.append(("the short jobs started by priority", short_ones_by_priority(demo_jobs, jobs)))
        shown.append(
            {
                "id": job["id"],
                "name": job["name"],
                "state": job["state"],
                "expected": demo_job.expected,
                "ok": all(good for _, good in checks),
                "checks": [{"what": what, "ok": good} for what, good in checks],
                "attempts": [
                    {
                        "number": attempt["number"],
                        "class": attempt["class"],
                        "exit_code": attempt["exit_code"],
                        "gpus": [gpu["index"] for gpu in attempt["gpus"]],
                        "gpu_seconds": attempt["gpu_seconds"],
                    }
                    for attempt in job["attempts"]
                ],
            }
        )
    return {"jobs": shown, "ok": all(job["ok"] for job in shown)}


def _print_table(result: dict[str, Any], sandbox: Sandbox) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="What became of them", title_justify="left")
    for head, justify in (("JOB", "left"), ("STATE", "left"), ("ATTEMPT", "right"), ("CLASS", "left")):
        table.add_column(head, justify=justify)  # type: ignore[arg-type]
    for head in ("EXIT", "GPUS", "GPU-SECONDS"):
        table.add_column(head, justify="right")
    total = 0.0
    for job in result["jobs"]:
        for position, attempt in enumerate(job["attempts"]):
            total += attempt["gpu_seconds"]
            table.add_row(
                job["name"] if position == 0 else "",
                job["state"] if position == 0 else "",
                str(attempt["number"]),
                attempt["class"],
                "-" if attempt["exit_code"] is None else str(attempt["exit_code"]),
                ",".join(str(index) for index in attempt["gpus"]) or "-",
                f"{attempt['gpu_seconds']:.1f}",
            )
    console = Console()
    console.print()
    console.print(table)
    elapsed = time.monotonic() - sandbox.begin
    console.print(f"{total:.1f} GPU-seconds in {elapsed:.1f} s on {len(sandbox.gpus)} GPUs")
    for job in result["jobs"]:
        for check in job["checks"]:
            mark = "[green]ok[/]  " if check["ok"] else "[bold red]WRONG[/]"
            if len(job["checks"]) > 2 or not check["ok"]:
                console.print(f"{mark} {job['name']}: {check['what']}")
    console.print(
        "Every outcome is what it should be." if result["ok"] else "[bold red]Not all is as it should be.[/]"
    )
