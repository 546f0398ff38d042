"""The private daemon of a demonstration, its jobs, and what is shown of them while they run."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leptond.client.errors import ClientError
from leptond.client.target import Target
from leptond.client.transport import Transport
from leptond.core.jobs.states import TERMINAL

START_S = 120.0
LIMIT_S = 1800.0
POLL_S = 0.25
Checks = Iterator[tuple[str, bool]]


class DemoFailed(Exception):
    """The demonstration could not be carried out; the message says why and what to do."""


@dataclass
class DemoJob:
    """One job of the demonstration: what it is, and what must come of it. `limit_by`: another one, whose
    first report shows how long an import of torch takes on this machine; this one is held until its time
    limit has been set by that."""

    name: str
    shows: str
    argv: list[str]
    spec: dict[str, Any]
    expected: str
    checks: Callable[[Sandbox, dict[str, Any]], Checks]
    limit_by: DemoJob | None = None
    id: int = 0
    began: float = 0.0
    shown_state: str = ""
    offsets: dict[int, int] = field(default_factory=dict)
    metrics: Path = Path()


def limit_after(first_report_s: float) -> int:
    """Return a time limit, in whole seconds, within which a job reaches its first steps where another one
    took `first_report_s` from its start to its first report: twice that, because the machine may get busier,
    and some seconds to train.

    >>> limit_after(3.0)
    12
    """
    return math.ceil(2 * first_report_s + 6)


class Sandbox:
    """The private daemon, the jobs, and what is printed of them."""

    def __init__(self, directory: Path, simulate: int | None, say: Callable[[str], None]) -> None:
        self.directory = directory
        self.say = say
        self._simulate = simulate
        self._process: subprocess.Popen[bytes] | None = None
        self.api = Transport(Target(path=str(directory / "state" / "leptond.sock")))
        self.gpus: list[dict[str, Any]] = []
        self.simulated = False
        self.begin = time.monotonic()

    # -- the daemon --------------------------------------------------------------------------------

    def open(self) -> None:
        """Start the daemon on real GPUs, or on simulated ones where there are none."""
        if self._simulate is None and Path("/dev/nvidiactl").exists():
            self._start([])
            self.gpus = self.api.get("/v1/gpus")["items"]
            if self.gpus:
                return
            self.close()
        self._start(["--simulate-gpus", str(self._simulate or 2)])
        self.gpus = self.api.get("/v1/gpus")["items"]
        self.simulated = True

    def _start(self, options: Sequence[str]) -> None:
        log = self.directory / "daemon.log"
        # in this short demonstration a gang waits behind backfilled jobs for 20 s at most
        env = {**os.environ, "LEPTOND_QUEUE__MAX_BYPASS_S": "20", "LEPTOND_LOG__FORMAT": "json"}
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "leptond",
                    "run",
                    "--state-dir",
                    str(self.directory / "state"),
                    *options,
                ],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(ClientError):
                if self.api.request("GET", "/readyz", patience_s=0).status == 200:
                    return
            time.sleep(0.05)
        raise DemoFailed(f"the daemon did not start; its log:\n{log.read_text()[-2000:]}")

    def close(self) -> None:
        """Cancel the jobs that still run, then stop the daemon."""
        with contextlib.suppress(ClientError):
            for job in self.api.pages("/v1/jobs", {"order": "queue"})["items"]:
                self.api.post(f"/v1/jobs/{job['id']}/cancel", {"grace_s": 0})
                self.api.wait_job(str(job["id"]), 20, patience_s=0)
        self.api.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    # -- the jobs ----------------------------------------------------------------------------------

    def submit(self, demo_jobs: Sequence[DemoJob]) -> None:
        """Queue all jobs in one call: all of them, or none."""
        bodies = []
        for demo_job in demo_jobs:
            demo_job.metrics = self.directory / f"{demo_job.name}.jsonl"
            bodies.append(
                {
                    "name": demo_job.name,
                    "argv": [word.replace("METRICS", str(demo_job.metrics)) for word in demo_job.argv],
                    "cwd": str(self.directory),
                    "env": {
                        "OMP_NUM_THREADS": "1",
                        "PYTHONWARNINGS": "ignore",
                        # torchrun leaves directories there
                        "TMPDIR": str(self.directory),
                    },
                    **demo_job.spec,
                }
            )
        answer = self.api.post("/v1/jobs:batch", {"jobs": bodies}, key="demo")
        for demo_job, stored in zip(demo_jobs, answer["jobs"], strict=True):
            demo_job.id = stored["id"]

    def watch(self, demo_jobs: Sequence[DemoJob]) -> None:
        """Print progress until every job has ended. Raises DemoFailed when that takes too long."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            jobs = {job["id"]: job for job in self.api.pages("/v1/jobs", {})["items"]}
            for demo_job in demo_jobs:
                self._show(demo_job, jobs[demo_job.id])
                self.set_limit(demo_job)
            if all(jobs[demo_job.id]["state"] in TERMINAL for demo_job in demo_jobs):
                return
            time.sleep(POLL_S)
        raise DemoFailed(f"the jobs did not end within {LIMIT_S:.0f} s; see {self.directory}")

    def set_limit(self, demo_job: DemoJob) -> None:
        """Give a job its time limit and let it go, once the first step of the other one has been seen."""
        measure = demo_job.limit_by
        if measure is None or not measure.began or not self.reports(measure):
            return
        demo_job.limit_by = None
        limit_s = limit_after(time.monotonic() - measure.began)
        self.api.request("PATCH", f"/v1/jobs/{demo_job.id}", body={"time_limit_s": limit_s})
        self.api.post(f"/v1/jobs/{demo_job.id}/release")
        self._line(demo_job, f"has a limit of {limit_s} s, by the start of {measure.name}; is released")

    def _show(self, demo_job: DemoJob, job: dict[str, Any]) -> None:
        for number in range(1, job["attempt"] + 1):
            for line in self._new_lines(demo_job, number):
                self._line(demo_job, f"| {line}")
        state = job["state"]
        seen = f"{state} {job['attempt']} {job['reason'] == 'Backoff'}"
        if seen == demo_job.shown_state:
            return
        demo_job.shown_state = seen
        if state == "running":
            demo_job.began = demo_job.began or time.monotonic()
            where = ", ".join(f"GPU {index}" for index in job["gpu_indices"]) or "a CPU slot"
            self._line(demo_job, f"running on {where} (attempt {job['attempt']})")
        elif state == "pending" and job["reason"] == "Backoff":
            self._line(demo_job, job["reason_detail"])
        elif state == "stopping":
            self._line(demo_job, "at its limit: told to stop, in its grace")
        elif state in TERMINAL:
            self._line(demo_job, f"{state}: {job['explanation']}")

    def _new_lines(self, demo_job: DemoJob, number: int) -> list[str]:
        offset = demo_job.offsets.get(number, 0)
        try:
            reply = self.api.request(
                "GET", f"/v1/jobs/{demo_job.id}/log", query={"attempt": number, "offset": offset}
            )
        except ClientError:
            return []  # the attempt has not printed anything yet
        data: bytes = reply.body
        whole = data[: data.rfind(b"\n") + 1]
        demo_job.offsets[number] = offset + len(whole)
        lines = whole.decode("utf-8", "replace").splitlines()
        # of a traceback, only the line that says what happened
        return [line for line in lines if line and not line.startswith((" ", "Traceback", "W1", "E1"))]

    def _line(self, demo_job: DemoJob, text: str) -> None:
        self.say(f"{time.monotonic() - self.begin:6.1f}s  {demo_job.name:<12} {text}")

    # -- evidence ----------------------------------------------------------------------------------

    def output(self, job: dict[str, Any], number: int) -> str:
        """The output of an attempt."""
        reply = self.api.request("GET", f"/v1/jobs/{job['id']}/log", query={"attempt": number})
        return reply.body.decode("utf-8", "replace")

    @staticmethod
    def reports(demo_job: DemoJob) -> list[dict[str, Any]]:
        """The reports of a training on its steps: attempt, step, loss, held-out loss."""
        if not demo_job.metrics.exists():
            return []
        return [json.loads(line) for line in demo_job.metrics.read_text().splitlines()]
