"""Promise 1: the daemon is killed at random moments under load, also while it starts, and nothing is lost,
doubled or misjudged. The same rounds carry promises 21 (retries) and 23 (submits sent twice): a client whose
connection broke sends its submit again with the same key."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.campaign import Found, Outcome, campaign, run_trials
from tests.faults.invariants import Evidence, check
from tests.support.daemon import TERMINAL, Daemon

WITNESS = Path(__file__).with_name("witness.py")
KILLS_A_ROUND = 25
PARALLEL = 2
"""Rounds at a time: most of a round is waiting."""
NEVER_AGAIN = {"ok", "cancelled", "config", "diverged", "user-oom-gpu"}
SUBMITTERS = 5
DRAIN_S = 300.0
"""How long a queue of short jobs may take to run dry on a busy machine."""


@campaign("P1 P21 P23", title="Random kills of the daemon under load", short=1, full=40)
def random_kills(trials: int, seed: int, workdir: Path) -> Outcome:
    """A trial is a round of 25 kills; the figures count kills."""
    return run_trials(one_round, trials, seed, workdir, parallel=PARALLEL)


def one_round(
    dice: random.Random,
    place: Path,
    *,
    kills: int = KILLS_A_ROUND,
    apart_s: float = 3.0,
    submits_per_s: float = 50.0,
    runnable: int = 40,
) -> Found:
    """Load, kills `0` to `apart_s` seconds apart, then the checks. Of the submits offered, so many stay
    `runnable` at a time as the machine can run; the others are held, and cancelled sooner or later. In every
    other round the jobs start warm."""
    warm = dice.random() < 0.5
    env = {"LEPTOND_QUEUE__CPU_SLOTS": "6", "LEPTOND_HTTP__SUBMITS_PER_S": "1000"}
    if warm:
        env |= {"LEPTOND_ENGINE__WARM": "true", "LEPTOND_ENGINE__WARM_IMPORTS": '["csv"]'}
    daemon = Daemon(place / "s", "--simulate-gpus", "8", env=env)
    daemon.start()
    command = [sys.executable, *([] if warm else ["-I", "-S"]), str(WITNESS), str(place / "witness")]
    load = Load(daemon, random.Random(dice.random()), command, submits_per_s, runnable)
    past = Past(daemon.state_dir)
    moments, zygotes = [], 0
    begin = time.monotonic()
    try:
        load.start()
        for _ in range(kills):
            if dice.random() < 0.6:
                daemon.ready()  # on a busy machine a start takes as long as the daemon would live
            time.sleep(dice.uniform(0, apart_s))  # a random moment is the point
            moments.append(time.clock_gettime(time.CLOCK_BOOTTIME))
            assert daemon.process is not None
            assert daemon.process.poll() is None, f"the daemon ended by itself:\n{daemon.tail()}"
            if dice.random() < 0.3:
                zygotes += kill_zygotes(daemon.process.pid)
                time.sleep(dice.uniform(0, 0.5))
            daemon.kill()
            past.compare()
            daemon.launch()
        daemon.ready()
        load_s = time.monotonic() - begin
        load.finish()
        drain(daemon)
        ended = jobs_of(daemon)
    finally:
        load.stop()
        daemon.close()
    seen = Evidence(daemon.state_dir, place / "witness")
    check(seen, load.accepted)
    waits = check_retries(seen)
    by_key = {job["labels"]["n"]: job for job in ended.values()}
    assert len(by_key) == len(ended), "a submit that was sent twice became two jobs"
    assert set(by_key) == set(load.sent), "a submit that was answered is not there"
    for job_id, number in load.accepted.items():
        assert ended[job_id]["labels"]["n"] == str(number)
        judge(ended[job_id], load.sent[str(number)], job_id in load.cancelled)
    adopted = _adopted(seen, moments)
    return Found(
        count=kills,
        figures={
            "jobs": len(ended),
            "load_s": round(load_s, 1),
            "attempts": len(seen.attempts),
            "adoptions": adopted,
            "zygotes_killed": zygotes,
            "warm_starts": sum(one["start"] == "warm" for one in seen.attempts),
            "submits_offered": load.offered,
            "submits_sent_again": load.again,
            "cancels": len(load.cancelled),
            "retries": waits,
        },
    )


def kill_zygotes(daemon: int) -> int:
    """kill -9 of what forks the daemon's shims; how many there were. Its shims are nobody's children then."""
    killed = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(") ")[2].split()[1])
            if parent == daemon and b"zygote" in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
                killed += 1
    return killed


def check_retries(seen: Evidence) -> int:
    """Promise 21, from the events: the wait before a retry is min(cap, base * 2^n), times 0.5 to 1, and no
    attempt begins before it is over. How many retries there were."""
    claims = {(one["job_id"], one["number"]): one["claimed_at"] for one in seen.attempts}
    count = 0
    for event in seen.events:
        if event["type"] != "job.requeued":
            continue
        count += 1
        data = json.loads(event["data"])
        spec = json.loads(seen.jobs[event["job_id"]]["spec"])
        assert data["class"] not in NEVER_AGAIN, data
        assert data["class"] != "timeout" or "timeout" in spec["retry_on"], data
        drawn = re.match(r"(user|snooze) retry ([0-9]+) of", data["retry"])
        if drawn is not None:
            full = min(spec["retry_max_delay_s"], spec["retry_delay_s"] * 2 ** (int(drawn[2]) - 1))
            assert full / 2 - 0.001 <= data["delay_s"] <= full + 0.001, (data, full)
        following = claims.get((event["job_id"], event["attempt"] + 1))
        if following is not None:
            assert following >= event["at"] + data["delay_s"] - 0.05, (dict(event), following)
    return count


def _adopted(seen: Evidence, moments: list[float]) -> int:
    """How often a job lived through a kill. That it was the same process, and no other attempt, is what the
    witness's lines say: one start and at most one end a process, none of them lost."""
    lost = [one for one in seen.attempts if one["class"] == "infra-node"]
    assert not lost, f"nobody killed a shim, so no attempt may be lost: {lost}"
    spans: dict[str, list[float]] = {}
    pids: dict[str, int] = {}
    for line in seen.witness:
        assert pids.setdefault(line["attempt_id"], line["pid"]) == line["pid"], line
        spans.setdefault(line["attempt_id"], []).append(line["at"])
    by_id = {one["id"]: one for one in seen.attempts}
    for attempt_id, pid in pids.items():
        assert by_id[attempt_id]["pid"] == pid, (by_id[attempt_id], pid)
    return sum(1 for span in spans.values() for at in moments if span[0] < at < span[-1])


class Past:
    """What a crash may not take back, looked at in the database between a kill and the next start."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._jobs: dict[int, sqlite3.Row] = {}

    def compare(self) -> None:
        """Asserts that nothing went backwards since the last look."""
        with tempfile.TemporaryDirectory() as copy:
            for file in self._state_dir.glob("leptond.db*"):
                shutil.copy(file, copy)
            db = sqlite3.connect(Path(copy) / "leptond.db")
            db.row_factory = sqlite3.Row
            columns = "id, state, attempt, spent_user, spent_infra, spent_snooze, spent_requeue, exit_code"
            now = {row["id"]: row for row in db.execute(f"SELECT {columns} FROM jobs")}
            db.close()
        for job_id, before in self._jobs.items():
            after = now[job_id]
            for column in ("attempt", "spent_user", "spent_infra", "spent_snooze", "spent_requeue"):
                assert after[column] >= before[column], (dict(before), dict(after))
            if before["state"] in TERMINAL:
                assert tuple(after) == tuple(before), (dict(before), dict(after))
        self._jobs = now


class Load:
    """Clients that submit and cancel without pause, and do not let a dying daemon keep them from it."""

    def __init__(
        self, daemon: Daemon, dice: random.Random, command: list[str], submits_per_s: float, runnable: int
    ) -> None:
        self._daemon = daemon
        self._dice = dice
        self._command = command
        self._pause_s = 1 / submits_per_s
        self._runnable = runnable
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._trouble: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._guard, args=(work,))
            for work in (*[self._submit] * SUBMITTERS, self._cancel, self._look)
        ]
        self.sent: dict[str, dict[str, Any]] = {}
        self.accepted: dict[int, int] = {}
        self.cancelled: set[int] = set()
        self.offered = self.again = 0
        self._room = runnable

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the clients; their requests under way are finished first."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(60)

    def finish(self) -> None:
        """Ends the clients, then cancels what was only ever held."""
        self.stop()
        if self._trouble:
            raise self._trouble[0]
        for job_id, number in list(self.accepted.items()):
            if self.sent[str(number)].get("hold"):
                self._cancel_one(job_id)

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._trouble.append(error)

    def _ask(self, path: str, body: Any, key: str) -> Any:
        """The answer to a request, sent again with the same key for as long as nobody answers."""
        data = json.dumps(body).encode()
        until = time.monotonic() + 120
        while time.monotonic() < until:
            self.offered += 1
            try:
                answer = self._daemon.request("POST", path, data, {"Idempotency-Key": key})
                if answer.status != 503:  # it is starting or stopping
                    return answer
            except (OSError, http.client.HTTPException):
                pass
            self.again += 1
            time.sleep(0.1)
        raise AssertionError(f"nobody answers {path}")

    def _submit(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                number = len(self.sent)
                spec = self._spec(number)
                self.sent[str(number)] = spec
            answer = self._ask("/v1/jobs", spec, f"n{number}")
            assert answer.status in (200, 201), (answer.status, answer.data)
            with self._lock:
                self.accepted[answer.json["id"]] = number
            self._stop.wait(SUBMITTERS * self._pause_s)

    def _spec(self, number: int) -> dict[str, Any]:
        dice = self._dice
        one = job(number, dice, self._command)
        if self._room <= 0 or dice.random() < 0.5:
            one["hold"] = True
        else:
            self._room -= 1
        return one

    def _look(self) -> None:
        """How many more jobs may run, now and then."""
        while not self._stop.wait(0.5):
            with contextlib.suppress(OSError, http.client.HTTPException, KeyError, ValueError):
                status = self._daemon.get("/v1/status").json
                self._room = self._runnable - (status["counts"]["pending"] - status["held"])

    def _cancel(self) -> None:
        while not self._stop.wait(self._dice.uniform(0.02, 0.3)):
            with self._lock:
                recent = list(self.accepted)[-200:]
            if recent:
                self._cancel_one(self._dice.choice(recent))

    def _cancel_one(self, job_id: int) -> None:
        body = {} if self._dice.random() < 0.5 else {"grace_s": self._dice.choice([0, 0.2])}
        with self._lock:
            self.cancelled.add(job_id)  # it may have been heard although nobody answered
        answer = self._ask(f"/v1/jobs/{job_id}/cancel", body, "c")
        assert answer.status in (202, 409), (answer.status, answer.data)


def job(number: int, dice: random.Random, command: list[str]) -> dict[str, Any]:
    """A job whose end is told by its number; `command` begins with the witness."""
    one: dict[str, Any] = {
        "gpus": dice.choice([0, 1, 1, 1, 2, 4, 8]),
        "priority": dice.randint(-3, 3),
        "grace_s": 0.5,
        "labels": {"n": str(number)},
    }
    kind = number % 20
    if kind < 12:  # ends with its own code
        hold_s = dice.uniform(0.05, 0.4)
        one["no_retry_on"] = ["tempfail"]
        return {**one, "argv": [*command, f"{hold_s:.3f}", str(number % 256)]}
    if kind < 14:  # fails, is tried again
        retry = {"retries": 2, "retry_delay_s": 0.4, "retry_max_delay_s": 0.6, "no_retry_on": ["config"]}
        return {**one, **retry, "argv": [*command, "0.05", "9"]}
    if kind == 14:  # asks to be tried later
        return {**one, "retry_delay_s": 0.2, "argv": [*command, "0.05", "0", "later"]}
    if kind == 15:  # overruns, leaves politely
        return {**one, "time_limit_s": 0.4, "argv": [*command, "30", "0"]}
    if kind == 16:  # overruns, must be killed
        return {**one, "time_limit_s": 0.4, "argv": [*command, "30", "0", "trap"]}
    if kind == 17:  # runs longer than a daemon lives
        return {**one, "gpus": 1, "argv": [*command, f"{dice.uniform(1, 20):.3f}", str(number % 256)]} | {
            "no_retry_on": ["tempfail"]
        }
    if kind == 18:
        return {**one, "argv": ["no-such-command"]}
    return {**one, "argv": [*command, "0.05", "0"], "time_limit_s": 60}


def drain(daemon: Daemon) -> None:
    """Waits until nothing waits or runs, by one snapshot at a time."""
    deadline = time.monotonic() + DRAIN_S
    while True:
        counts = daemon.get("/v1/status").json["counts"]
        if not sum(number for state, number in counts.items() if state not in TERMINAL):
            return
        assert time.monotonic() < deadline, f"stuck (I11): {counts}"
        time.sleep(0.1)


def jobs_of(daemon: Daemon) -> dict[int, dict[str, Any]]:
    """Every job that the daemon knows."""
    found: dict[int, dict[str, Any]] = {}
    more = ""
    while True:
        page = daemon.get(f"/v1/jobs?limit=1000{more}").json
        found |= {one["id"]: one for one in page["items"]}
        if page["next_cursor"] is None:
            return found
        more = f"&cursor={page['next_cursor']}"


def judge(ended: dict[str, Any], spec: dict[str, Any], was_cancelled: bool) -> None:
    """The end of a job is the one that its spec asks for."""
    assert ended["state"] in TERMINAL, ended
    if was_cancelled:
        return
    argv = spec["argv"]
    seen = (ended["state"], ended["class"], ended["exit_code"])
    if argv == ["no-such-command"]:
        assert seen[:2] == ("failed", "config"), ended
    elif spec.get("time_limit_s", 60) < 60:
        assert seen[:2] == ("timed_out", "timeout"), ended
    elif argv[-1] == "later":
        assert seen == ("succeeded", "ok", 0), ended
    else:
        code = int(argv[-1])
        assert seen[0] == ("succeeded" if code == 0 else "failed"), ended
        assert seen[2] == code, ended
