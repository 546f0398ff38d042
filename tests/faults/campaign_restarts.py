"""Promises 5, 6, 13, 15 and 20: restarts that nobody notices, shims that are killed, a daemon that is frozen,
graces that a crash does not stretch, and an order that it does not change."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import secrets
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.faults.campaign import Found, Outcome, campaign, run_trials
from tests.faults.invariants import Evidence, check
from tests.faults.zoo import leashed, on_leash
from tests.support.daemon import Daemon, parent_of, until

PYTHON = sys.executable

LINES = """
import os, signal, sys, time
def heard(number, _):
    os.write(1, b"SIGNAL %d\\n" % number)
for number in (1, 2, 3, 10, 12, 15):
    signal.signal(number, heard)
os.write(1, b"pid %d\\n" % os.getpid())
i, begin = 0, time.monotonic()
while not os.path.exists(sys.argv[1]):
    while i < (time.monotonic() - begin) * 1000:
        os.write(1, b"line %d\\n" % i)
        i += 1
    time.sleep(0.001)
os.write(1, b"last %d\\n" % i)
sys.exit(7)
"""
"""A thousand numbered lines a second, until the file is there."""


@campaign("P5", title="A graceful restart disturbs no job and loses no line", short=1, full=20)
def graceful_restarts(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is five restarts of one daemon; the figures count restarts."""
    return run_trials(restarts, trials, seed, workdir)


def restarts(dice: random.Random, place: Path, *, rounds: int = 5) -> Found:
    """`rounds` restarts under one job that prints all the time."""
    daemon = Daemon(place / "s", "--simulate-gpus", "1")
    daemon.start()
    try:
        job = daemon.submit(PYTHON, "-I", "-S", "-c", LINES, str(place / "go"), gpus=1)
        daemon.printed(job, "line 20")
        before = daemon.job(job)["attempts"][0]
        for _ in range(rounds):
            time.sleep(dice.uniform(0, 0.5))  # a random moment is the point
            daemon.restart()
            assert daemon.job(job)["state"] == "running"
        (place / "go").touch()
        done = daemon.finished(job)
        output = daemon.output(job)
    finally:
        (place / "go").touch()
        daemon.close()
    after = done["attempts"][0]
    assert (done["state"], done["exit_code"], done["attempt"]) == ("failed", 7, 1)
    assert (after["pid"], after["id"]) == (before["pid"], before["id"])
    lines = output.splitlines()
    assert lines[0] == f"pid {before['pid']}"
    assert "SIGNAL" not in output
    count = int(lines[-1].split()[1])
    assert lines[1:-1] == [f"line {i}" for i in range(count)], "a line is lost"
    return Found(count=rounds, figures={"lines": count})


ORPHANS = {
    "plain": "up(); rest()",
    "deaf": "deaf(); up(); rest()",
    "workers": """
deaf()
for _ in range(3):
    if os.fork() == 0:
        os.setsid(); rest()
up(); rest()
""",
    "hidden": """
deaf()
code = "import signal, time; signal.signal(15, signal.SIG_IGN); open(%r, 'w').write(%r); time.sleep(600)"
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        words = (sys.argv[1], os.environ["CUDA_VISIBLE_DEVICES"])
        os.execve(sys.executable, ["hidden", "-I", "-S", "-c", code % words], {})
    os._exit(0)
rest()
""",
}
_ORPHAN_PROLOGUE = """
import os, signal, sys, time
def up():
    with open(sys.argv[1], "w") as file:
        file.write(os.environ["CUDA_VISIBLE_DEVICES"])
def rest():
    while True:
        time.sleep(600)
def deaf():
    signal.signal(15, signal.SIG_IGN)
"""

SUCCESSOR = """
import os, sys
first, count, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
before = set()
for number in range(first, first + count):
    try:
        if open(f"{place}/up-{number}").read() == os.environ["CUDA_VISIBLE_DEVICES"]:
            before.add(number)
    except OSError:
        pass
left = []
for entry in os.listdir("/proc"):
    try:
        limits = open(f"/proc/{entry}/limits").read()
        state = open(f"/proc/{entry}/stat").read().rpartition(") ")[2][0]
    except OSError:
        continue
    soft = limits.partition("Max msgqueue size ")[2].split()[:1]
    if soft and soft[0].isdigit() and int(soft[0]) in before and state not in "ZX":
        left.append(entry)
print("before", len(before), "left", len(left))
"""
"""Says which jobs had its GPU before, and whether any of their processes still lives."""


@campaign("P6", title="Shims killed", short=1, full=63)
def shims_killed(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial kills eight shims; the figures count them."""
    return run_trials(lambda dice, place: kill_shims(dice, place, daemon_too=False), trials, seed, workdir)


@campaign("P6", title="Shims and daemon killed together", short=1, full=25)
def shims_and_daemon_killed(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial kills eight shims and the daemon at once; the figures count the shims."""
    return run_trials(lambda dice, place: kill_shims(dice, place, daemon_too=True), trials, seed, workdir)


def kill_shims(dice: random.Random, place: Path, *, daemon_too: bool, count: int = 8) -> Found:
    """Orphans of all kinds on all GPUs; behind each waits a job that wants its GPU and looks around."""
    # not from the dice: of two runs at once, with equal dice, each would find the other's processes
    first = 200_000 + secrets.randbelow(1000) * 100
    numbers = set(range(first, first + count))
    daemon = Daemon(place / "s", "--simulate-gpus", str(count), env={"LEPTOND_ENGINE__LINGER_S": "0.5"})
    daemon.start()
    try:
        jobs, shims = {}, []
        for index, number in enumerate(sorted(numbers)):
            kind = list(ORPHANS)[index % len(ORPHANS)]
            program = [
                PYTHON,
                "-I",
                "-S",
                "-c",
                _ORPHAN_PROLOGUE + ORPHANS[kind],
                str(place / f"up-{number}"),
            ]
            jobs[number] = daemon.submit(*on_leash(number, program), gpus=1, requeue=False, name=kind)
        for number, job in jobs.items():
            until(lambda number=number: (place / f"up-{number}").exists(), "the orphans-to-be are up")
            until(lambda job=job: daemon.job(job)["attempts"][0]["pid"], "its pid is stored")
            shims.append(parent_of(daemon.job(job)["attempts"][0]["pid"]))
        successors = [
            daemon.submit(PYTHON, "-I", "-S", "-c", SUCCESSOR, str(first), str(count), str(place), gpus=1)
            for _ in range(count)
        ]
        if daemon_too:
            assert daemon.process is not None
            for pid in (*shims, daemon.process.pid):
                os.kill(pid, signal.SIGKILL)
            daemon.process.wait()
            daemon.start()
            begin = time.monotonic()
        else:
            begin = time.monotonic()
            for shim in shims:
                os.kill(shim, signal.SIGKILL)
        until(lambda: not leashed(numbers)[0], "the orphans are ended")
        took_s = time.monotonic() - begin
        for job in jobs.values():
            done = daemon.finished(job)
            assert (done["state"], done["class"], done["attempt"]) == ("lost", "infra-node", 1), done
            assert done["exit_code"] is None
        for job in successors:
            assert daemon.finished(job)["state"] == "succeeded"
            said = daemon.output(job).split()
            assert said[0] == "before"
            assert said[3] == "0", f"the GPU was given on too early: {said}"
        check(Evidence(daemon.state_dir, place / "none"), [*jobs.values(), *successors])
    finally:
        daemon.close()
    return Found(
        count=count, figures={"sum_of_s": took_s}, notes={"all_ended": "in 5 s" if took_s <= 5 else "later"}
    )


FROZEN = """
import sys, time
print("up", flush=True)
time.sleep(float(sys.argv[1]))
sys.exit(int(sys.argv[2]))
"""


@campaign("P13", title="A frozen daemon", short=1, full=40)
def frozen_daemon(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is five freezes; the figures count freezes."""
    return run_trials(freezes, trials, seed, workdir)


def freezes(dice: random.Random, place: Path, *, rounds: int = 5) -> Found:
    """SIGSTOP under jobs that end, overrun and go on meanwhile."""
    daemon = Daemon(place / "s", "--simulate-gpus", "4", env={"LEPTOND_QUEUE__CPU_SLOTS": "4"})
    daemon.start()
    late = 0
    try:
        whole = daemon.submit(PYTHON, "-I", "-S", "-c", LINES, str(place / "go"), gpus=1)
        daemon.printed(whole, "line 5")
        for _ in range(rounds):
            command = [PYTHON, "-I", "-S", "-c", FROZEN]
            code = dice.randrange(3, 60)
            ends = daemon.submit(*command, str(dice.uniform(0, 1)), str(code), gpus=1)
            over = daemon.submit(*command, "60", "0", time_limit_s=dice.uniform(0.2, 0.8), grace_s=0.2)
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGSTOP)
            time.sleep(dice.choice([1, 1, 2, 5]))  # how long it is frozen is the point
            daemon.process.send_signal(signal.SIGCONT)
            thawed = time.monotonic()
            assert (daemon.finished(over)["state"], daemon.job(over)["attempt"]) == ("timed_out", 1)
            late += time.monotonic() - thawed > 2.8
            done = daemon.finished(ends)
            assert (done["state"], done["exit_code"], done["attempt"]) == ("failed", code, 1), done
        (place / "go").touch()
        done = daemon.finished(whole)
        assert (done["exit_code"], done["attempt"]) == (7, 1)
        assert "SIGNAL" not in daemon.output(whole)
        check(Evidence(daemon.state_dir, place / "none"), [whole])
    finally:
        (place / "go").touch()
        daemon.close()
    return Found(count=rounds, figures={"limits_later_than_2_s": late})


@campaign("P13", title="A hung loop is restarted by its watchdog", short=1, full=50)
def watchdog(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is one hang."""
    return run_trials(one_hang, trials, seed, workdir)


class NotifySocket:
    """What systemd would listen on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.settimeout(0.1)
        self._stop = threading.Event()
        self.heard: list[tuple[float, str]] = []
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._stop.is_set():
            try:
                message = self._sock.recv(4096).decode()
            except TimeoutError:
                continue
            self.heard.append((time.monotonic(), message))

    def times(self, message: str) -> list[float]:
        """When it was heard."""
        return [at for at, text in self.heard if message in text]

    def close(self) -> None:
        """Stops listening."""
        self._stop.set()
        self._thread.join()
        self._sock.close()
        self.path.unlink()


def one_hang(dice: random.Random, place: Path, *, hang_s: float = 600.0, allowed_s: float = 3.0) -> Found:
    """The loop is blocked by a failpoint; a small service manager kills and restarts a silent daemon. The
    job that runs meanwhile must not notice."""
    bell = NotifySocket(place / "n")
    env = {"NOTIFY_SOCKET": str(bell.path), "WATCHDOG_USEC": str(int(allowed_s * 1e6))}
    daemon = Daemon(place / "s", "--simulate-gpus", "2", "--unsafe-failpoints", env=env)
    daemon.env["LEPTOND_FAILPOINTS"] = f"before_stop_file=1*delay({hang_s})"
    try:
        daemon.start()
        del daemon.env["LEPTOND_FAILPOINTS"]
        job = daemon.submit(PYTHON, "-I", "-S", "-c", LINES, str(place / "go"), gpus=1)
        victim = daemon.submit(PYTHON, "-c", "print('up', flush=True); import time; time.sleep(600)")
        daemon.printed(job, "line 5")
        daemon.printed(victim, "up")
        until(lambda: len(bell.times("WATCHDOG=1")) >= 2, "the watchdog is fed")
        time.sleep(dice.uniform(0, 0.3))
        # delivering the stop blocks the loop, perhaps before the cancel is answered
        asking = threading.Thread(target=_ask_to_cancel, args=(daemon, victim))
        asking.start()
        until(
            lambda: time.monotonic() - bell.times("WATCHDOG=1")[-1] > allowed_s,
            "it falls silent when it hangs",
        )
        daemon.kill()
        asking.join()
        daemon.start()
        assert daemon.finished(victim)["state"] == "cancelled"
        (place / "go").touch()
        done = daemon.finished(job)
        assert (done["exit_code"], done["attempt"]) == (7, 1)
        assert "SIGNAL" not in daemon.output(job)
        heard = [text for _, text in bell.heard]
        assert sum("READY=1" in text for text in heard) == 2
        daemon.terminate()
        assert any("STOPPING=1" in text for text in (text for _, text in bell.heard))
    finally:
        (place / "go").touch()
        daemon.close()
        bell.close()
    return Found()


def _ask_to_cancel(daemon: Daemon, job: int) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        daemon.post(f"/v1/jobs/{job}/cancel", {"grace_s": 0})


GRACE = """
import os, signal, sys, time
def now():
    return time.clock_gettime(time.CLOCK_BOOTTIME)
signal.signal(15, lambda *_: os.write(1, b"TERM %.3f\\n" % now()))
os.write(1, b"up %.3f\\n" % now())
beat = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
while True:
    os.pwrite(beat, b"%016.3f" % now(), 0)
    time.sleep(0.01)
"""


@campaign("P15", title="The grace is kept, also over a crash", short=4, full=500)
def graces(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is one stop with a crash inside its grace."""
    return run_trials(one_grace, trials, seed, workdir, parallel=2)


def one_grace(dice: random.Random, place: Path) -> Found:
    """One SIGTERM at the limit (or the cancel), one SIGKILL a grace later, whatever the daemon does."""
    limit_s, grace_s = round(dice.uniform(0.5, 1.5), 3), round(dice.uniform(0.8, 2.5), 3)
    by_limit = dice.random() < 0.5
    daemon = Daemon(place / "s", "--simulate-gpus", "1")
    daemon.start()
    try:
        command = [PYTHON, "-I", "-S", "-c", GRACE, str(place / "beat")]
        job = daemon.submit(*command, grace_s=grace_s, time_limit_s=limit_s if by_limit else None)
        daemon.printed(job, "up")
        asked = time.clock_gettime(time.CLOCK_BOOTTIME)
        if not by_limit:
            daemon.post(f"/v1/jobs/{job}/cancel")
        daemon.printed(job, "TERM")
        time.sleep(dice.uniform(0, grace_s * 0.8))  # a random moment inside the grace is the point
        daemon.kill()
        time.sleep(dice.choice([0, 0, grace_s]))
        daemon.start()
        done = daemon.finished(job)
        output = daemon.output(job).splitlines()
    finally:
        daemon.close()
    assert done["state"] == ("timed_out" if by_limit else "cancelled"), done
    assert (done["signal"], done["attempt"]) == ("SIGKILL", 1), done
    terms = [float(line.split()[1]) for line in output if line.startswith("TERM")]
    assert len(terms) == 1, output
    up = float(output[0].split()[1])
    end = float((place / "beat").read_text())
    term_error = terms[0] - (up + limit_s if by_limit else asked)
    kill_error = end - (terms[0] + grace_s)
    # the command comes up a moment after its clock was started, and beats every 10 ms
    assert by_limit is False or term_error > -0.5, f"SIGTERM {-term_error:.3f} s too early"
    assert kill_error > -0.2, f"SIGKILL {-kill_error:.3f} s too early"
    return Found(
        figures={"sum_term_error_s": abs(term_error), "sum_kill_error_s": abs(kill_error)},
        notes={
            "term": "within 0.5 s" if abs(term_error) <= 0.5 else "later",
            "kill": "within 0.5 s" if abs(kill_error) <= 0.5 else "later",
        },
    )


@campaign("P20", title="The order of the queue over a crash", short=1, full=50)
def order(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is one queue of thirty jobs."""
    return run_trials(one_order, trials, seed, workdir)


def one_order(dice: random.Random, place: Path, *, count: int = 30) -> Found:
    """Priority, then first come: the same before and after a crash, and in the starts."""
    daemon = Daemon(place / "s", "--simulate-gpus", "1")
    daemon.start()
    try:
        blocker = daemon.submit(PYTHON, "-c", "import time; print('up', flush=True); time.sleep(600)", gpus=1)
        daemon.printed(blocker, "up")
        wanted: dict[int, int] = {}
        for _ in range(count):
            priority = dice.randint(-2, 2)
            wanted[daemon.submit("true", gpus=1, priority=priority)] = priority
        for job in dice.sample(list(wanted), 3):
            wanted[job] = 5
            assert daemon.request("PATCH", f"/v1/jobs/{job}", {"priority": 5}).status == 200
        expected = sorted(wanted, key=lambda job: (-wanted[job], job))
        assert waiting(daemon) == expected
        daemon.kill()
        daemon.start()
        assert waiting(daemon) == expected, "the order changed over a crash"
        daemon.post(f"/v1/jobs/{blocker}/cancel", {"grace_s": 0})
        until(lambda: daemon.job(expected[count // 3])["state"] == "succeeded", "a third has run")
        daemon.kill()
        daemon.start()
        for job in expected:
            assert daemon.finished(job)["state"] == "succeeded"
        seen = Evidence(daemon.state_dir, place / "none")
        ran = [one for one in seen.attempts if one["job_id"] in wanted and one["class"] == "ok"]
        ran.sort(key=lambda one: one["claimed_boot"])
        assert [one["job_id"] for one in ran] == expected, "the starts are not in order"
        check(seen, [blocker, *expected])
    finally:
        daemon.close()
    return Found(figures={"jobs": count})


def waiting(daemon: Daemon) -> list[int]:
    """Ids of the pending jobs in the queue's order."""
    page: dict[str, Any] = daemon.get("/v1/jobs?state=pending&order=queue&limit=1000").json
    return [one["id"] for one in page["items"]]
