"""A daemon with nothing to do is at rest. What is counted is not time but timers: each that stands in the
loop of a real daemon would wake it once in the delay that it was given."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import IO, Any

from leptond.engines.shim.supervise import POLL_CAP_S
from tests.support.daemon import PYTHON, Daemon, until

WAKES_PER_S = 2.0
"""The most that a daemon at rest may be woken, besides the sampling of its GPUs."""

LOOKS = 10

PROGRAM = """
import asyncio, json, os, signal
from leptond.__main__ import main

delays, call_at = {}, asyncio.BaseEventLoop.call_at

def noted(self, when, *args, **more):
    handle = call_at(self, when, *args, **more)
    delays[id(handle)] = when - self.time()
    return handle

def who(handle, loop):
    owner = getattr(handle._callback, "__self__", None)
    if isinstance(owner, asyncio.Timeout):
        return owner._task.get_name()
    for task in asyncio.all_tasks(loop):
        if task._fut_waiter is not None and task._fut_waiter in (handle._args or ()):
            return task.get_name()
    return repr(handle._callback)

def tell(*_):
    loop = asyncio.get_running_loop()
    timers = [[who(one, loop), delays[id(one)]] for one in loop._scheduled if not one.cancelled()]
    with open(os.environ["TIMERS"] + ".new", "w") as file:
        json.dump(timers, file)
    os.rename(os.environ["TIMERS"] + ".new", os.environ["TIMERS"])

asyncio.BaseEventLoop.call_at = noted
signal.signal(signal.SIGUSR2, tell)
main()
"""


class Watched(Daemon):
    """A daemon that tells its timers when it is asked."""

    def __init__(self, state_dir: Path, *options: str) -> None:
        self.timers_file = state_dir.parent / "timers"
        super().__init__(state_dir, *options, env={"TIMERS": str(self.timers_file)})

    def _launch(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [PYTHON, "-c", PROGRAM, "run", "--state-dir", str(self.state_dir), *self.options],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )

    def timers(self) -> list[tuple[str, float]]:
        """The tasks that wait for a time, and how long in all."""
        assert self.process is not None
        self.timers_file.unlink(missing_ok=True)
        os.kill(self.process.pid, signal.SIGUSR2)
        until(self.timers_file.exists, "the list of timers")
        return [(name, delay) for name, delay in json.loads(self.timers_file.read_text())]


def wakes_per_s(timers: list[tuple[str, float]]) -> float:
    """How often these timers wake the daemon, the sampling of GPUs left out."""
    return sum(1 / max(delay, 0.001) for name, delay in timers if name != "gpu-watch")


def test_a_daemon_with_running_jobs_is_at_rest(tmp_path: Path) -> None:
    one = Watched(tmp_path / "state", "--simulate-gpus", "2").start()
    try:
        jobs = [one.submit("sleep", "600", gpus=1, time_limit_s=3600) for _ in range(2)]
        waiting = one.submit("true", gpus=1)
        for job in jobs:
            one.reached(job, "running")
        seen: list[tuple[str, float]] = []

        def at_rest() -> bool:
            # a timer is not there while what it has woken is at work: look several times
            for _ in range(LOOKS):
                seen[:] = one.timers()
                if wakes_per_s(seen) >= WAKES_PER_S:
                    return False
            return True

        with contextlib.suppress(AssertionError):
            until(at_rest, "rest")
        assert wakes_per_s(seen) < WAKES_PER_S, sorted(seen, key=lambda timer: timer[1])
        assert "gpu-watch" in [name for name, _ in seen]
        assert one.job(waiting)["state"] == "pending"
    finally:
        one.close()


def test_a_timer_that_goes_round_and_round_would_be_seen() -> None:
    hours: list[Any] = [("maintenance", 3600.0), ("gpu-watch", 0.2), ("scheduler", 60.0)]
    assert wakes_per_s(hours) < 0.1
    assert wakes_per_s([*hours, ("poll", 0.1)]) > WAKES_PER_S


def test_a_shim_looks_up_a_few_times_a_minute() -> None:
    assert 1 / POLL_CAP_S < 0.1
