"""The order of starts in a simulation: who may be passed over by whom, and for how long."""

from __future__ import annotations

import json
import sqlite3
from bisect import bisect_left
from typing import TYPE_CHECKING

from leptond.core.scheduling.inputs import Policy
from leptond.core.scheduling.order_keys import LEAST_RUN_S
from leptond.core.scheduling.overdue import batch_gpu_s

if TYPE_CHECKING:
    from tests.simulation.checker import Checker

ENOUGH_STARTS: dict[str, int | None] = {
    "fifo": 20,
    "firstfit": 20,
    "auto": 60,
    "throughput": 60,
    "shortest": None,
    "easy": None,
}
"""How many starts after its patience is over show that a job is passed over. `shortest` has no bound; what
`easy` delays nobody knows beforehand. The two with batches owe one after so many of the least starts: that is
looked at where the seed's figures are small."""


class Order:
    """Looks at every start. `longest_s`: how long the jobs of the simulation run at most; `wall_jumps`: the
    wall clock is set now and then, so that waits by it say nothing."""

    def __init__(self, checker: Checker, policy: Policy, longest_s: float) -> None:
        self.checker, self.world, self.db = checker, checker.world, checker.db
        self.policy, self.longest_s = policy, longest_s
        self.wall_jumps = False
        self.gpu_starts: list[float] = []

    def started(self, job: sqlite3.Row) -> None:
        """Nobody is overtaken by an equal, and nobody is overtaken for ever."""
        if not job["gpus"]:
            return
        self.gpu_starts.append(self.world.now)
        self._equals(job)
        if not self.wall_jumps:
            self._starving(job)

    def _equals(self, job: sqlite3.Row) -> None:
        """An older one that differs in nothing but a priority that is not lower: it stands before `job` in
        the order of every policy."""
        if job["attempt"] != 1 or job["array_id"] is not None or job["begin_at"] is not None:
            return
        for other, spec in self.db.execute(
            "SELECT id, spec FROM jobs WHERE state = 'pending' AND held = 0"
            " AND deps_waiting = 0 AND deps_failed = 0 AND id < ? AND gpus = ? AND priority >= ?"
            " AND name = ? AND user = ? AND predicted_s IS ?"
            " AND array_id IS NULL AND attempt = 0 AND time_limit_s IS ? AND begin_at IS NULL",
            (
                *(job["id"], job["gpus"], job["priority"], job["name"], job["user"], job["predicted_s"]),
                job["time_limit_s"],
            ),
        ).fetchall():
            theirs, own = json.loads(spec), json.loads(job["spec"])
            alike = theirs.get("preemptible") == own.get("preemptible")
            # one whose begin time is over, or was taken back, counts from its own submission
            alike = alike and not theirs.get("begin_at") and not own.get("begin_at")
            # one that has begun as a successor is claimed later where the disk takes no commits for long
            begun = any(one.job_id == other for one in self.checker.machine.commands.values())
            if alike and not begun and self.checker.changed_at[other] < self.checker.looked_at:
                self.checker.fail(f"job {job['id']} was started before job {other}, which is older and alike")

    def _starving(self, job: sqlite3.Row) -> None:
        """The bound of the policy: for how long an older one may be passed over, by starts of jobs that
        fair share cannot have put before it. Where nothing starts, nobody is passed over."""
        enough = ENOUGH_STARTS[self.policy.name]
        usable = self.db.execute("SELECT count(*) FROM gpus WHERE present = 1 AND drained = 0").fetchone()[0]
        usable -= len(set(self.checker.machine.sick_gpus) | self.checker.machine.gone_gpus)
        batch = batch_gpu_s(self.policy, usable) if self.policy.name in ("auto", "throughput") else 0.0
        if enough is None or batch > LEAST_RUN_S * self.policy.overdue_share * enough:
            return
        fairness_s = self.policy.fairness.max_handicap_s
        for other in self.db.execute(
            "SELECT * FROM jobs WHERE state = 'pending'"
            " AND held = 0 AND deps_waiting = 0 AND deps_failed = 0 AND gpus BETWEEN 1 AND ?"
            " AND (priority > ? OR priority = ? AND id < ?) AND array_id IS NULL"
            " AND submitted_at < ?",
            (
                *(usable, job["priority"], job["priority"], job["id"]),
                min(self.world.wall() - self.longest_s, job["submitted_at"] - fairness_s),
            ),
        ):
            bound_s = self.longest_s + self._patience(other)
            if (other["backoff_boot"] or 0.0) > self.world.boot() - bound_s:
                continue
            since = max(other["submitted_at"], other["begin_at"] or 0.0)
            since = since - self.world.wall() + self.world.now
            waits_since = max(
                self.checker.changed_at.get(other["id"], self.world.now), since, self.checker.room_changed_at
            )
            patient_until = waits_since + self._patience(other)
            passed = len(self.gpu_starts) - bisect_left(self.gpu_starts, patient_until)
            if waits_since < self.checker.looked_at - bound_s and passed >= enough:
                self.checker.fail(
                    f"job {other['id']} could have run since {waits_since:.0f}"
                    f" and is still passed over by job {job['id']}"
                )

    def _patience(self, other: sqlite3.Row) -> float:
        """When the policy begins to keep GPUs for a job that waits."""
        policy = self.policy
        if policy.name == "fifo":
            return 0.0
        if policy.name == "firstfit":
            return policy.max_bypass_s
        expected_s = min(
            (one for one in (other["predicted_s"], other["time_limit_s"]) if one is not None),
            default=policy.unknown_run_s,
        )
        return max(policy.overdue_s, min(policy.overdue_factor * expected_s, policy.overdue_max_s))
