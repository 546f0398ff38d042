"""Thirty short jobs of all kinds, driven in steps that can be taken again: whoever drives goes on after a
crash where the answer did not come. What must become of each job is known beforehand.

Every submit carries an Idempotency-Key, so that taking a step twice makes one job.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.invariants import Evidence, check
from tests.support.daemon import PATIENCE_S, TERMINAL, Daemon

ENDS = {
    "absent": ("failed", "config"),
    "victim": ("cancelled", None),
    "never": ("cancelled", None),
    "overtaken": ("cancelled", None),
    "polite": ("timed_out", "timeout"),
    "stubborn": ("timed_out", "timeout"),
}
"""State and class (None: any) of the jobs that do not come to an exit of their own."""


class Crashed(Exception):
    """The daemon did not answer."""


@dataclass
class Scenario:
    """The steps, how many have been taken, and the jobs that were accepted."""

    command: list[str]
    done: int = 0
    jobs: dict[str, list[int]] = field(default_factory=dict)
    on_accepted: Callable[[list[int]], None] = lambda ids: None
    begins: dict[str, str] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    ordered: bool = False

    def drive(self, daemon: Daemon) -> None:
        """Takes the steps that are left. Raises Crashed."""
        steps = self.steps()
        while self.done < len(steps):
            try:
                steps[self.done](daemon)
            except (OSError, http.client.HTTPException) as error:
                raise Crashed(f"in step {self.done}") from error
            self.done += 1

    def steps(self) -> list[Callable[[Daemon], None]]:
        """In their order."""
        short = "0.01"
        return [
            self._submit("plain-0", short, "0", gpus=1),
            self._submit("plain-1", short, "1", gpus=1, priority=2),
            self._submit("plain-2", short, "2", gpus=0),
            self._submit("victim", "20", "0", gpus=1, priority=9, grace_s=0.1),
            self._submit("gang", "0.02", "4", gpus=4),
            self._submit("first", short, "0", gpus=1),
            self._submit("second", short, "5", gpus=1, after=["first"]),
            self._submit("third", short, "0", gpus=0, after_fail=["second"]),
            self._submit("fourth", short, "0", gpus=0, after_any=["second"]),
            self._submit("retried", short, "9", gpus=1, retries=1, retry_delay_s=0.1),
            self._submit("polite", "20", "0", gpus=1, time_limit_s=0.2, grace_s=5),
            self._submit("stubborn", "20", "0", "trap", gpus=1, time_limit_s=0.2, grace_s=0.1),
            self._submit("absent", gpus=1, argv=["no-such-command"]),
            self._cancel("victim", when="running"),
            self._submit("held", short, "6", gpus=1, hold=True),
            self._submit("never", short, "0", gpus=1, hold=True),
            self._cancel("never"),
            self._submit("array", short, "7", gpus=1, array="0-8%3"),
            self._submit("late", short, "8", gpus=0, begin_s=0.3),
            self._submit("pair-0", "0.03", "0", gpus=2, priority=1),
            self._submit("pair-1", "0.03", "10", gpus=2, priority=1),
            self._post("held", "release"),
            self._submit("overtaken", "20", "0", "trap", gpus=1, grace_s=30),
            self._cancel("overtaken", when="running", grace_s=0.05),
            self._submit("last-0", short, "11", gpus=1),
            self._submit("last-1", short, "12", gpus=3),
        ]

    def _submit(self, name: str, *words: str, **spec: Any) -> Callable[[Daemon], None]:
        if name not in ENDS:
            self.codes[name] = int(words[1])

        def step(daemon: Daemon) -> None:
            body = {"name": name, "argv": [*self.command, *words], "grace_s": 0.1, **spec}
            for field_name in ("after", "after_any", "after_fail"):
                if field_name in body:
                    body[field_name] = [str(self.jobs[one][0]) for one in body[field_name]]
            if "begin_s" in body:
                begin = time.time() + body.pop("begin_s")
                words_of = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(begin))
                body["begin_at"] = f"{words_of}.{int(begin % 1 * 1000):03d}Z"
                # the same body for the same key, also when the step is taken again
                body["begin_at"] = self.begins.setdefault(name, body["begin_at"])
            answer = daemon.post("/v1/jobs", body, Idempotency_Key=f"{name}-key")
            if answer.status not in (200, 201):
                raise ConnectionError(f"{name} was refused: {answer.status} {answer.data!r}")
            ids = answer.json["ids"]
            before = self.jobs.get(name)
            assert before is None or before == ids, f"{name} was accepted twice: {before} {ids}"
            self.jobs[name] = ids
            self.on_accepted(ids)

        return step

    def _cancel(self, name: str, when: str = "", **body: Any) -> Callable[[Daemon], None]:
        def step(daemon: Daemon) -> None:
            (job,) = self.jobs[name]
            deadline = time.monotonic() + PATIENCE_S
            while when and (state := daemon.job(job)["state"]) != when:
                if state in TERMINAL or state == "stopping":
                    return  # taken before the crash
                assert time.monotonic() < deadline, f"{name} does not get {when}: {daemon.job(job)}"
                time.sleep(0.005)
            status = daemon.post(f"/v1/jobs/{job}/cancel", body or None).status
            if status >= 500:
                raise ConnectionError(f"the cancel of {name} was refused: {status}")
            assert status in (200, 202, 409), status

        return step

    def _post(self, name: str, verb: str) -> Callable[[Daemon], None]:
        def step(daemon: Daemon) -> None:
            status = daemon.post(f"/v1/jobs/{self.jobs[name][0]}/{verb}").status
            if status >= 500:
                raise ConnectionError(f"the {verb} of {name} was refused: {status}")
            assert status in (200, 409), status

        return step

    @property
    def accepted(self) -> list[int]:
        """Every job whose submit was answered."""
        return [job for ids in self.jobs.values() for job in ids]

    def judge(self, seen: Evidence) -> None:
        """All invariants, and the end that each job must come to."""
        check(seen, self.accepted, ordered=self.ordered)
        assert self.done == len(self.steps()), "the scenario is not over"
        assert set(seen.jobs) == set(self.accepted), "a job that nobody asked for"
        for name, ids in self.jobs.items():
            for job in ids:
                row = seen.jobs[job]
                if name in ENDS:
                    state, cause = ENDS[name]
                    assert row["state"] == state, (name, row)
                    assert cause is None or row["class"] == cause, (name, row)
                else:
                    code = self.codes[name]
                    assert row["state"] == ("succeeded" if code == 0 else "failed"), (name, row)
                    assert row["exit_code"] == code, (name, row)
        tries = [one for one in seen.attempts if one["job_id"] == self.jobs["retried"][0]]
        assert sum(one["class"] == "user" for one in tries) == 2, tries


def drained(daemon: Daemon) -> None:
    """Waits until no job is left. Raises Crashed when the daemon goes away, AssertionError when it does
    not come to rest (liveness)."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            counts = daemon.get("/v1/status").json["counts"]
        except (OSError, http.client.HTTPException) as error:
            raise Crashed("while it drained") from error
        if not sum(n for state, n in counts.items() if state not in TERMINAL):
            return
        assert time.monotonic() < deadline, f"it does not come to rest: {counts}\n{daemon.tail()}"
        time.sleep(0.01)


def finish(scenario: Scenario, daemon: Daemon, witness: Path) -> Evidence:
    """Drives the rest on a sound daemon, ends it, and judges."""
    scenario.drive(daemon)
    drained(daemon)
    code = daemon.terminate()
    assert code == 0, f"the daemon ended with {code}"
    seen = Evidence(daemon.state_dir, witness)
    scenario.judge(seen)
    return seen
