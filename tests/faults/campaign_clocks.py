"""Promise 12: a wall clock that is set, by a second or by ten years, changes no limit, no back-off and no
order; a suspend counts, because limits are kept by CLOCK_BOOTTIME.

The daemon and its shims run with a library between them and their clocks (preload/clock.c); nothing else of
the machine is touched.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.campaign import Found, Outcome, campaign, run_trials
from tests.faults.campaign_restarts import waiting
from tests.faults.invariants import Evidence, check
from tests.support.daemon import Daemon, until

YEAR_S = 365.25 * 86400
JUMPS_S = (1, 30, 3600, 86400, YEAR_S, 10 * YEAR_S)

WORK = """
import sys, time
now = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
begin = now()
print("up", begin, flush=True)
while now() - begin < float(sys.argv[1]):
    time.sleep(0.01)
print("down", now(), flush=True)
sys.exit(int(sys.argv[2]))
"""


def why_not() -> str:
    """Why it cannot be tried here; empty when it can."""
    return "" if shutil.which("gcc") else "no C compiler"


@functools.cache
def library() -> Path:
    """The compiled library."""
    out = Path(tempfile.mkdtemp(prefix="lept-c-")) / "clock.so"
    source = Path(__file__).parent / "preload" / "clock.c"
    command = ["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(out), str(source), "-lm"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return out


class Clocks:
    """The file that says how far the clocks are ahead."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(4096))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 4096)

    def set(self, wall_s: float = 0.0, boot_s: float = 0.0) -> None:
        """Sets both, at once for everybody."""
        self._map[:16] = struct.pack("dd", wall_s, boot_s)


@contextlib.contextmanager
def shifted(place: Path, **env: str):
    """A daemon whose clocks can be moved."""
    clocks = Clocks(place / "clocks")
    daemon = Daemon(
        place / "s",
        "--simulate-gpus",
        "1",
        "--unsafe-failpoints",
        env={"LEPTOND_QUEUE__CPU_SLOTS": "6", **env},
    )
    daemon.env |= {"LD_PRELOAD": str(library()), "LEPTOND_FAULTS_CLOCK": str(clocks.path)}
    daemon.start()
    try:
        yield daemon, clocks
    finally:
        clocks.set()
        daemon.close()


@campaign("P12", title="The wall clock jumps", short=2, full=200)
def clock_jumps(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is a run of jobs under several jumps; the figures count jumps."""
    if (why := why_not()) != "":
        return Outcome(trials=0, failures=0, skipped=why)
    return run_trials(jumps, trials, seed, workdir)


def jumps(dice: random.Random, place: Path, *, count: int = 4) -> Found:
    """Jobs that overrun, end in time, and are tried again, while the wall clock goes to and fro."""
    with shifted(place) as (daemon, clocks):
        command = [sys.executable, "-I", "-S", "-c", WORK]
        blocker = daemon.submit(*command, "600", "0", gpus=1)
        daemon.printed(blocker, "up")
        queued = [daemon.submit("true", gpus=1, priority=dice.randint(-1, 1)) for _ in range(6)]
        order = sorted(queued, key=lambda job: (-daemon.job(job)["priority"], job))
        over = daemon.submit(*command, "60", "0", time_limit_s=2, grace_s=0.2)
        intime = daemon.submit(*command, "2.5", "11", time_limit_s=30)
        endless = daemon.submit(*command, "2.5", "12")
        again = daemon.submit(
            *command, "0", "9", retries=1, retry_delay_s=2, retry_max_delay_s=2, no_retry_on=["config"]
        )
        for job in (over, intime, endless, again):
            daemon.printed(job, "up")
        restarts = 0
        for _ in range(count):
            time.sleep(dice.uniform(0, 0.4))  # a random moment is the point
            clocks.set(wall_s=dice.choice(JUMPS_S) * dice.choice([-1, 1]))
            if dice.random() < 0.4:
                daemon.kill()
                daemon.start()
                restarts += 1
            seen = [job for job in waiting(daemon) if job in queued]
            assert seen == order, "the order of the queue changed"
        done = daemon.finished(over)
        assert (done["state"], done["attempt"]) == ("timed_out", 1), done
        assert 2.0 <= done["attempts"][0]["run_s"], done
        late_s = done["attempts"][0]["run_s"] - 2.0
        for job, code in ((intime, 11), (endless, 12)):
            done = daemon.finished(job)
            assert (done["state"], done["exit_code"], done["attempt"]) == ("failed", code, 1), done
            assert done["attempts"][0]["stop_reason"] is None, done
        done = daemon.finished(again)
        # a daemon that was killed before the gate opened has made an attempt that never ran
        ran = [one["number"] for one in done["attempts"] if one["class"] != "never-started"]
        assert (done["exit_code"], len(ran)) == (9, 2), done
        waited_s = _up(daemon, again, ran[1]) - _up(daemon, again, ran[0])
        assert waited_s >= 1.0, f"the back-off was cut to {waited_s:.2f} s"
        for job in (blocker, *queued):
            daemon.post(f"/v1/jobs/{job}/cancel", {"grace_s": 0})
        for job in (blocker, *queued):
            daemon.finished(job)
        clocks.set()
        check(Evidence(daemon.state_dir, place / "none"), [over, intime, endless, again], clock_jumped=True)
    return Found(
        count=count,
        figures={"restarts": restarts, "sum_late_s": late_s, "sum_waited_s": waited_s},
        notes={
            "limit": "within 1 s" if late_s <= 1.2 else "later",
            "back_off": "1-2 s" if waited_s < 4 else "longer",
        },
    )


def _up(daemon: Daemon, job: int, attempt: int) -> float:
    return float(daemon.output(job, attempt).split()[1])


@campaign("P12", title="A suspend counts towards the limit", short=1, full=20)
def suspends(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is one suspend."""
    if (why := why_not()) != "":
        return Outcome(trials=0, failures=0, skipped=why)
    return run_trials(one_suspend, trials, seed, workdir)


def one_suspend(dice: random.Random, place: Path) -> Found:
    """An hour passes for CLOCK_BOOTTIME and the wall clock, and not for CLOCK_MONOTONIC. The shims look at
    their clocks at the latest when the longest sleep of theirs is over."""
    with shifted(place) as (daemon, clocks):
        command = [sys.executable, "-I", "-S", "-c", WORK]
        limited = daemon.submit(*command, "600", "0", time_limit_s=dice.randint(600, 3000), grace_s=0)
        unlimited = daemon.submit(*command, "1", "5")
        daemon.printed(limited, "up")
        daemon.printed(unlimited, "up")
        clocks.set(wall_s=3600, boot_s=3600)
        done = daemon.finished(limited)
        assert (done["state"], done["attempt"]) == ("timed_out", 1), done
        assert daemon.finished(unlimited)["exit_code"] == 5
        waits = daemon.submit("false", retries=1, retry_delay_s=600, no_retry_on=["config"])
        until(lambda: daemon.job(waits)["reason"] == "Backoff", "it waits")
        clocks.set(wall_s=2 * 3600, boot_s=2 * 3600)
        daemon.submit("true")  # something happens, so that the scheduler looks
        assert daemon.finished(waits)["attempt"] == 2
        clocks.set(wall_s=2 * 3600, boot_s=2 * 3600)
    return Found()
