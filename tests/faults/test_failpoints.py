"""Every boundary of the protocols is a place to die at: the daemon and the shim are killed at each, once."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from http.client import HTTPException
from pathlib import Path

import pytest

from leptond.base import failpoints
from leptond.base.failpoints import BadFailpoint, parse
from tests.faults.invariants import Evidence, check
from tests.faults.scenario import drained
from tests.faults.template import ForkedDaemon
from tests.support.daemon import Daemon, alive_with_cookie, gone, until
from tests.support.template import shared

PYTHON = sys.executable
TOP = Path(__file__).parents[2]
PLACE = re.compile(r'\bfp\("([a-z_]+)"\)')
NAMES = sorted({name for file in (TOP / "leptond").rglob("*.py") for name in PLACE.findall(file.read_text())})
DAEMON = [name for name in NAMES if not name.startswith("shim_") and name != "name"]
FORKED = ("shim_before_fork", "shim_after_fork")
"""Passed by only where a command's process is forked; tests/unit/engines/shim/test_command.py dies there."""
SUCCESSION = [
    name
    for name in NAMES
    if name.startswith("shim_") and name.endswith(("_hand_on", "_slot", "_turn", "withdrawn"))
]
"""Passed by only where attempts take over from others."""
SHIM = [name for name in NAMES if name.startswith("shim_") and name not in (*FORKED, *SUCCESSION)]
WITNESS = [PYTHON, "-S", str(Path(__file__).with_name("witness.py"))]


@pytest.mark.parametrize(
    "text", ["x", "x=", "x=burn", "x=0.5*kill", "x=delay", "x=kill(3)", "x y=kill", "=kill", "x=kill->"]
)
def test_bad_grammar_is_refused(text):
    with pytest.raises(BadFailpoint):
        parse(text)


def test_terms_follow_each_other(monkeypatch):
    for name in ("fp", "armed", "shim_text"):  # put back afterwards
        monkeypatch.setattr(failpoints, name, getattr(failpoints, name))
    failpoints.arm("here=2*off->1*error->off")
    failpoints.fp("here")
    failpoints.fp("elsewhere")
    failpoints.fp("here")
    with pytest.raises(OSError, match="failpoint here"):
        failpoints.fp("here")
    failpoints.fp("here")


def test_a_release_ignores_the_variables(tmp_path):
    every = ";".join(f"{name}=kill" for name in NAMES)
    env = {"LEPTOND_FAILPOINTS": every, "LEPTOND_FAULTS_TARGET": "engines/shim/", "LD_PRELOAD": ""}
    daemon = Daemon(tmp_path / "s", "--simulate-gpus", "1", env=env)
    daemon.start()
    job = daemon.submit("sh", "-c", "cat /proc/$PPID/environ", gpus=1)
    assert daemon.finished(job)["state"] == "succeeded"
    assert "FAULTS" not in daemon.output(job)
    assert daemon.terminate() == 0


def test_a_mistake_in_the_variable_is_named(tmp_path):
    done = subprocess.run(
        [PYTHON, "-m", "leptond", "run", "--state-dir", str(tmp_path / "s"), "--unsafe-failpoints"],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "PYTHONPATH": str(TOP),
            "LEPTOND_FAILPOINTS": "x=1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78
    assert "LEPTOND_FAILPOINTS" in done.stderr
    assert "Traceback" not in done.stderr


def forked(tmp_path: Path) -> ForkedDaemon:
    env = {"LEPTOND_QUEUE__CPU_SLOTS": "4", "LEPTOND_ENGINE__LINGER_S": "0.2"}
    return ForkedDaemon(shared(), tmp_path / "s", "--simulate-gpus", "4", env=env)


def test_the_places_are_many():
    assert len(DAEMON) >= 20
    assert len(SHIM) >= 15


def test_the_daemon_is_killed_at_every_place(tmp_path):
    """One queue lives through all of these deaths: each start is also the recovery from the one before."""
    daemon = forked(tmp_path)
    witness = tmp_path / "witness"
    command = [*WITNESS, str(witness)]
    accepted: list[int] = []
    for name in DAEMON:
        prepare(daemon, name, command, accepted)
        daemon.faults = {"LEPTOND_FAILPOINTS": f"{name}=kill"}
        with contextlib.suppress(OSError, HTTPException, AssertionError):  # it may die at any moment
            daemon.start()
            provoke(daemon, name, command, accepted)
        assert gone(daemon.process.pid, 30), f"{name} is not passed by"
        assert daemon.process.poll() == -signal.SIGKILL, name
    daemon.start()
    for job in daemon.get("/v1/jobs?state=pending,starting,running,stopping&limit=1000").json["items"]:
        daemon.post(f"/v1/jobs/{job['id']}/cancel", {"grace_s": 0})
    drained(daemon)
    assert daemon.terminate() == 0
    check(Evidence(daemon.state_dir, witness), accepted)


def prepare(daemon: Daemon, name: str, command: list[str], accepted: list[int]) -> None:
    """Leaves behind what the places of a recovery need."""
    if name == "settle_started":
        daemon.faults = {"LEPTOND_FAILPOINTS": "after_outcome=kill"}
        with contextlib.suppress(OSError, HTTPException, AssertionError):  # or an earlier job comes to it
            daemon.start()
            hand_over(daemon, command, accepted, "0")
        assert gone(daemon.process.pid, 30)
        return
    if name not in ("reconcile_adopted", "reconcile_ended", "reconcile_never_started"):
        return
    if name == "reconcile_never_started":
        daemon.faults = {"LEPTOND_FAILPOINTS": "after_claim=kill"}
        with contextlib.suppress(OSError, HTTPException, AssertionError):
            daemon.start()
            accepted.append(daemon.submit(*command, "0", "0"))
        assert gone(daemon.process.pid, 30)
        return
    daemon.start()
    job = daemon.submit(*command, "30" if name == "reconcile_adopted" else "0.3", "0", priority=5)
    accepted.append(job)
    daemon.reached(job, "running")
    shim = shim_of(daemon.job(job)["attempts"][-1]["id"])
    daemon.kill()
    assert name == "reconcile_adopted" or gone(shim)


def hand_over(daemon: Daemon, command: list[str], accepted: list[int], exit_code: str) -> None:
    """A job takes the GPUs of another; at once if that ends well."""
    accepted += [daemon.submit(*command, "0.5", code, gpus=4, priority=7) for code in (exit_code, "0")]


def provoke(daemon: Daemon, name: str, command: list[str], accepted: list[int]) -> None:
    """Lets the daemon come by the place."""
    accepted.append(daemon.submit(*command, "0.01", "0"))
    if name in ("before_go", "before_withdraw", "after_withdraw"):
        hand_over(daemon, command, accepted, "1")
    if name in ("on_deck", "after_named", "after_outcome") or "succeed" in name or "hand_on" in name:
        hand_over(daemon, command, accepted, "0")
    if name.endswith("_halving"):
        trial = "echo ::leptond step=1 total=9 loss={loss}; test {loss} = 1 || exec sleep 30"
        body = {
            "job": {"argv": [trial], "shell": True, "priority": 9, "grace_s": 0.1},
            "grid": {"loss": [1, 2]},
        }
        accepted += daemon.post("/v1/sweeps", {**body, "min_step": 1, "eta": 2, "concurrent": 1}).json["ids"]
    if "stop" in name or name == "before_end_of_remains":
        job = daemon.submit(*command, "30", "0", "trap", gpus=0, priority=5)
        accepted.append(job)
        daemon.reached(job, "running")
        if name == "before_end_of_remains":
            os.kill(shim_of(daemon.job(job)["attempts"][-1]["id"]), signal.SIGKILL)
        else:
            daemon.post(f"/v1/jobs/{job}/cancel", {"grace_s": 0.1})


def shim_of(attempt_id: str) -> int:
    """The pid of an attempt's shim. The command has the shim's environment until it is executed."""

    def alone() -> list[int]:
        found = list(alive_with_cookie({attempt_id}, b"LEPTOND_SHIM"))
        return found if len(found) == 1 else []

    return until(alone)[0]


def test_the_shim_is_killed_at_every_place(tmp_path):
    """Wherever its shim dies, a job ends as lost or with its true exit, and leaves nobody behind."""
    daemon = forked(tmp_path)
    witness = tmp_path / "witness"
    accepted: list[int] = []
    for name in SHIM:
        daemon.faults = {"LEPTOND_FAILPOINTS": f"{name}=kill"}
        daemon.start()
        stubborn = "term" in name or name.endswith("_kill")
        if stubborn:
            command = ["sh", "-c", "trap '' TERM; exec sleep 60"]
            job = daemon.submit(*command, gpus=1, requeue=False, time_limit_s=0.8, grace_s=0.1)
        else:
            job = daemon.submit(*WITNESS, str(witness), "0.01", "3", gpus=1, requeue=False)
        accepted.append(job)
        told = name in ("shim_after_ended", "shim_before_exit_record", "shim_after_exit_record")
        wanted = {"failed"} if told else {"lost"}
        if stubborn:
            wanted.add("timed_out")  # the daemon saw the limit pass before it saw the shim go
        ended = daemon.finished(job)
        assert ended["state"] in wanted, name
        assert (ended["exit_code"] is None) == (not told), name
        drained(daemon)
        daemon.terminate()
    check(Evidence(daemon.state_dir, witness), accepted)


def test_a_shim_is_killed_at_every_place_of_a_succession(tmp_path):
    """Wherever a shim dies that hands a slot on or waits for one, every job comes to an end of its own, and
    no slot has two."""
    assert len(SUCCESSION) == 6
    daemon = forked(tmp_path)
    witness = tmp_path / "witness"
    accepted: list[int] = []
    for name in SUCCESSION:
        daemon.faults = {"LEPTOND_FAILPOINTS": f"{name}=1*kill"}
        daemon.start()
        code = "1" if name.endswith("withdrawn") else "0"
        words = [*WITNESS, str(witness), "0.5"]
        first = daemon.submit(*words, code, gpus=4, requeue=False)
        following = [daemon.submit(*words[:-1], "0.01", "0", gpus=4) for _ in range(2)]
        accepted += [first, *following]
        ended = daemon.finished(first)
        wanted = "lost" if name.endswith("hand_on") else "failed" if code == "1" else "succeeded"
        assert ended["state"] == wanted, name
        for job in following:
            assert daemon.finished(job)["state"] == "succeeded", name
        drained(daemon)
        daemon.terminate()
    check(Evidence(daemon.state_dir, witness), accepted)
