"""The daemon is killed again and again at random while jobs of mixed kinds run; every promise is checked
from what the jobs themselves wrote down."""

import os
import random
import sys
import time
from pathlib import Path

import pytest

from tests.faults.invariants import Evidence, check
from tests.support.daemon import TERMINAL, Daemon

PYTHON = sys.executable
WITNESS = Path(__file__).with_name("witness.py")
JOBS, KILLS = 200, 20
"""Of the whole campaign; by default it is half of it."""


def spec(number: int, dice: random.Random, witness: Path) -> dict:
    """A short job: what it does is told by its number, so that its end can be checked."""
    command = [PYTHON, "-S", str(WITNESS), str(witness)]
    kind = number % 10
    one = {"gpus": dice.choice([0, 1, 1, 1, 2, 4]), "priority": dice.randint(-3, 3), "grace_s": 0.5}
    if kind in (0, 1, 2, 3, 4):  # ends with its own code
        return {**one, "argv": [*command, f"{dice.uniform(0, 0.3):.3f}", str(number % 256)]}
    if kind == 5:  # fails, is retried
        retry = {"retries": 2, "retry_delay_s": 0.2, "no_retry_on": ["config"]}
        return {**one, **retry, "argv": [*command, "0.02", "9"]}
    if kind == 6:  # overruns, leaves politely
        return {**one, "time_limit_s": 0.3, "argv": [*command, "30", "0"]}
    if kind == 7:  # overruns, must be killed
        return {**one, "time_limit_s": 0.3, "argv": [*command, "30", "0", "trap"]}
    if kind == 8:  # runs longer than a daemon lives
        return {**one, "argv": [*command, f"{dice.uniform(0.5, 1.5):.3f}", "0"]}
    return {**one, "argv": ["no-such-command"]}


@pytest.mark.parametrize("share", [2, pytest.param(1, marks=pytest.mark.slow)], ids=["half", "whole"])
def test_every_promise_holds_under_random_kills(tmp_path, share):
    seed = int(os.environ.get("LEPTOND_TEST_SEED") or random.randrange(2**32))
    print(f"seed {seed} (LEPTOND_TEST_SEED repeats it)")
    dice = random.Random(seed)
    witness = tmp_path / "witness"
    daemon = Daemon(tmp_path / "state", "--simulate-gpus", "4", env={"LEPTOND_QUEUE__CPU_SLOTS": "4"})
    daemon.start()
    accepted: dict[int, dict] = {}
    cancelled: set[int] = set()
    kills = 0
    try:
        for number in range(JOBS // share):
            one = spec(number, dice, witness)
            answer = daemon.post("/v1/jobs", one)
            assert answer.status == 201, answer.data
            accepted[answer.json["id"]] = one
            if number % 25 == 24:
                victim = dice.choice(list(accepted))
                if daemon.post(f"/v1/jobs/{victim}/cancel").status == 202:
                    cancelled.add(victim)
            if number % (JOBS // KILLS) == JOBS // KILLS - 1:
                time.sleep(dice.uniform(0, 0.5))  # a random moment is the point
                daemon.kill()
                kills += 1
                daemon.start()
        deadline = time.monotonic() + 120
        while unended(daemon):
            assert time.monotonic() < deadline, daemon.get("/v1/status").json
            time.sleep(0.1)
        ended = {number: daemon.job(number) for number in accepted}
    finally:
        daemon.close()
    assert kills == KILLS // share
    seen = Evidence(daemon.state_dir, witness)
    check(seen, accepted)
    for number, one in accepted.items():
        judge(ended[number], one, number in cancelled)
    again = {attempt["class"] for attempt in seen.attempts}
    assert {"ok", "user", "timeout", "config"} <= again


def unended(daemon: Daemon) -> int:
    """How many jobs have not ended, from one snapshot: one by one, a job that is retried would slip
    through between two questions."""
    counts = daemon.get("/v1/status").json["counts"]
    return sum(number for state, number in counts.items() if state not in TERMINAL)


def judge(job: dict, one: dict, was_cancelled: bool) -> None:
    """The end of a job is the one that its spec asks for."""
    assert job["state"] in TERMINAL
    if was_cancelled:
        return
    if one["argv"] == ["no-such-command"]:
        assert (job["state"], job["class"]) == ("failed", "config"), job
    elif "time_limit_s" in one:
        assert (job["state"], job["class"]) == ("timed_out", "timeout"), job
    else:
        code = int(one["argv"][-1])
        assert job["state"] == ("succeeded" if code == 0 else "failed"), job
        assert job["exit_code"] == code, job
    if one.get("retries"):
        really_ran = [attempt for attempt in job["attempts"] if attempt["class"] != "never-started"]
        assert len(really_ran) == 3, job
