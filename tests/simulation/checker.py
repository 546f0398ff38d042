"""The invariants of a simulation, held after every commit and at the begin of every command. It knows the
database, the machine's truth and the people's answers, and nothing of how the daemon works."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from leptond.core.jobs.model import LEGAL, TERMINAL, ExitRecord, State
from leptond.core.scheduling.inputs import Policy
from tests.simulation.machine import Command, Machine, Shim
from tests.simulation.order import Order
from tests.simulation.world import Violation, World

TERMINAL_WORDS = {str(state) for state in TERMINAL}
LEGAL_WORDS = {str(old): {str(new) for new in following} for old, following in LEGAL.items()}

NEVER_AGAIN = {"ok", "cancelled", "config", "diverged", "user-oom-gpu"}
PAID_FROM = {
    "user": {"user"},
    "signal": {"user"},
    "timeout": {"user"},  # only where retry_on names it
    "infra-gpu": {"infra"},
    "infra-oom-gpu": {"infra"},
    "external-kill": {"infra"},
    "app-gpu": {"infra", "user"},
    "hang": {"infra", "user"},
    "oom-host": {"infra", "user"},
    "tempfail": {"snooze"},
    "preempted": {"preempt"},
    "infra-node": {"requeue"},
    "never-started": {"requeue"},
}
"""Who pays for another attempt. Written down once more, so that the product is held against it."""

CANCEL_SLACK_S = 180.0


class Checker:
    """Raises Violation."""

    def __init__(self, world: World, db: sqlite3.Connection, policy: Policy, *, longest_s: float) -> None:
        self.world, self.db = world, db
        self.machine: Machine
        self.order = Order(self, policy, longest_s)
        columns = [row[1] for row in db.execute("PRAGMA table_info(jobs)")]
        self.budgets = [name.removeprefix("spent_") for name in columns if name.startswith("spent_")]
        self.state: dict[int, str] = {}
        self.attempts: dict[int, int] = {}
        self.spent: dict[int, dict[str, int]] = {}
        self.changed_at: dict[int, float] = {}
        self.not_before: dict[int, tuple[str, float]] = {}
        self.accepted: set[int] = set()
        self.keys: dict[str, list[int]] = {}
        self.cancelled: set[int] = set()
        self.cancel_due: dict[str, float] = {}
        self.looked_at = 0.0
        self.room_changed_at = 0.0
        self.up_since: float | None = None
        self._uptime = 0.0
        self.decisions = 0
        self.claims = 0
        self.preemptions = 0
        self.checks = 0
        self._last_event = 0
        self.taken_from: dict[str, int] = {}
        self.before: dict[str, str] = {}

    def fail(self, words: str) -> None:
        raise Violation(words)

    # -- after every commit --------------------------------------------------------------------------

    def committed(self) -> None:
        """Follows the events that the commit brought."""
        rows = self.db.execute(
            "SELECT id, type, job_id, attempt, data FROM events WHERE id > ? ORDER BY id", (self._last_event,)
        ).fetchall()
        for number, kind, job_id, attempt, data in rows:
            if number != self._last_event + 1:
                self.fail(f"event {number} follows {self._last_event}")
            self._last_event = number
            self.checks += 1
            self.world.note(f"{kind} {job_id} {attempt} {data}")
            if job_id is not None:
                self._event(kind, job_id, json.loads(data))
            elif kind == "gpu.state":
                self.room_changed_at = self.world.now

    def _event(self, kind: str, job_id: int, data: dict[str, Any]) -> None:
        self.changed_at[job_id] = self.world.now
        if kind == "job.submitted":
            self.state[job_id], self.attempts[job_id] = "pending", 0
            self.spent[job_id] = dict.fromkeys(self.budgets, 0)
            return
        old = self.state.get(job_id)
        if old is None:
            self.fail(f"an event of job {job_id}, which was never submitted: {kind} {data}")
            return
        if kind == "job.purged":
            if old not in TERMINAL_WORDS:
                self.fail(f"job {job_id} was purged while {old}")
            self.accepted.discard(job_id)
            del self.state[job_id]
        elif kind == "job.released":
            self.spent[job_id]["requeue"] = 0
        elif kind == "job.edited" and "backoff" in data:
            self.not_before.pop(job_id, None)
        if "to" in data:
            if data["from"] != old:
                self.fail(f"job {job_id} was {old}, its event says {data}")
            self._moved(job_id, old, data)

    def _moved(self, job_id: int, old: str, data: dict[str, Any]) -> None:
        new = data["to"]
        if new not in LEGAL_WORDS[old]:
            self.fail(f"job {job_id} went from {old} to {new}")
        self.state[job_id] = new
        if new == "starting":
            self._claimed(job_id)
        elif new == "stopping" and data.get("reason") == "timeout":
            self._overran(job_id)
        elif new == "pending":
            self._attempt_ended(job_id, again=True)
        elif new in TERMINAL_WORDS and old != "pending":
            self._attempt_ended(job_id, again=False)

    def _claimed(self, job_id: int) -> None:
        self.claims += 1
        job = self.db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        row = self.db.execute(
            "SELECT * FROM attempts WHERE job_id = ? ORDER BY number DESC LIMIT 1", (job_id,)
        ).fetchone()
        if row["number"] != self.attempts[job_id] + 1:
            self.fail(f"job {job_id}: attempt {row['number']} follows {self.attempts[job_id]}")
        self.attempts[job_id] = row["number"]
        gpus = {gpu["uuid"] for gpu in json.loads(row["gpus"])}
        leased = {
            found[0]
            for found in self.db.execute("SELECT gpu_uuid FROM leases WHERE attempt_id = ?", (row["id"],))
        }
        if leased != gpus or len(gpus) != job["gpus"]:
            self.fail(f"job {job_id} needs {job['gpus']} GPUs, has {sorted(gpus)}, leased {sorted(leased)}")
        for command in self.machine.alive.values():
            if command.attempt_id == row["id"]:
                continue  # named as the successor, and gone already
            if self._leads_to(row["id"], self.before.get(command.attempt_id, "")):
                continue  # it is over, and the next one has its slot: they are booked in order
            if gpus.intersection(command.gpus):
                self.fail(f"job {job_id} was given a GPU on which job {command.job_id} has a process")
            if command.job_id == job_id and not command.killed:
                self.fail(f"job {job_id} was claimed while its attempt {command.number} has a process")
        if job["begin_at"] is not None and row["claimed_at"] < job["begin_at"]:
            self.fail(f"job {job_id} began at {row['claimed_at']}, before {job['begin_at']}")
        boot_id, until = self.not_before.pop(job_id, ("", 0.0))
        if boot_id == row["boot_id"] and row["claimed_boot"] < until:
            self.fail(
                f"job {job_id} was claimed {until - row['claimed_boot']:.3f} s before its back-off's end"
            )
        self.order.started(job)

    def _overran(self, job_id: int) -> None:
        """No false timeouts: the limit is really over, by boot time."""
        row = self.db.execute(
            "SELECT attempts.id, time_limit_s FROM attempts JOIN jobs ON jobs.id = job_id"
            " WHERE job_id = ? AND attempts.state <> 'ended'",
            (job_id,),
        ).fetchone()
        shim = self.machine.shims.get(row["id"])
        if shim is None or shim.command is None:
            return
        ran = self.world.boot() - shim.started_boot
        if ran < row["time_limit_s"] - 1.0 - 0.001 * row["time_limit_s"]:
            self.fail(f"job {job_id} is called overdue after {ran:.1f} s of {row['time_limit_s']:.1f} s")

    def _is_purged(self, job_id: int) -> bool:
        """Return True if the commit that is being looked at, or an earlier one, has purged the job."""
        purged = self.db.execute("SELECT 1 FROM events WHERE type = 'job.purged' AND job_id = ?", (job_id,))
        return purged.fetchone() is not None

    # -- the end of an attempt -----------------------------------------------------------------------

    def _attempt_ended(self, job_id: int, *, again: bool) -> None:
        # the same commit may have claimed the job anew
        row = self.db.execute(
            "SELECT * FROM attempts WHERE job_id = ? AND number = ?", (job_id, self.attempts[job_id])
        ).fetchone()
        job = self.db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if job is None:
            if not self._is_purged(job_id):
                self.fail(f"job {job_id} has ended and is no longer in the database; nobody purged it")
            return
        if row["state"] != "ended":
            self.fail(f"job {job_id} moved on while its attempt {row['number']} is {row['state']}")
        cause = row["class"]
        command = self.machine.commands.get(row["id"])
        record = self._known_end(row)
        if command is not None:
            self._true_end(row, command, cause)
        elif cause in ("ok", "user", "signal", "timeout", "tempfail"):
            self.fail(f"job {job_id} never ran and is called {cause}")
        if cause == "timeout" and (record is None or record.stop_reason != "timeout"):
            # without a record: its limit was over when its shim was lost
            ran = self.world.now - command.began if command is not None else 0.0
            if record is not None or ran < job["time_limit_s"]:
                self.fail(f"job {job_id} is called timed out after {ran:.1f} s; nobody stopped it for that")
        if cause == "preempted":
            self.preemptions += 1
            if not job["preemptible"] or record is None or record.stop_reason != "preempt":
                self.fail(f"job {job_id} is called preempted; it was not to be, or nobody did it")
        if cause == "cancelled" and job_id not in self.cancelled:
            self.fail(f"job {job_id} is called cancelled; nobody asked for it")
        if cause == "never-started" and command is not None:
            self.fail(f"job {job_id} ran and is called never started")
        spent = {budget: job[f"spent_{budget}"] for budget in self.budgets}
        before, self.spent[job_id] = self.spent[job_id], spent
        grown = {budget for budget in spent if spent[budget] != before[budget]}
        if not again:
            if grown:
                self.fail(f"job {job_id} ended and spent {grown}")
            return
        self._again(job, row, cause, spent, grown)

    def _known_end(self, row: sqlite3.Row) -> ExitRecord | None:
        """What somebody can know of an end: its record, or what the shim told a daemon that then booked it.
        What was told to a daemon that died of it is known to nobody, if the shim died as well."""
        record = self.machine.records.get(row["id"])
        told = self.machine.said.get(row["id"])
        booked = (row["exit_code"], row["signal"]) != (None, None)
        if record is None and told is not None and (booked or told.unkillable):
            return told
        return record

    def _true_end(self, row: sqlite3.Row, command: Command, cause: str) -> None:
        if command.alive:
            if not command.killed:
                self.fail(f"attempt {row['number']} of job {row['job_id']} is over, its command is not")
            for uuid in command.gpus:
                drained = self.db.execute("SELECT drained FROM gpus WHERE uuid = ?", (uuid,)).fetchone()[0]
                if not drained:
                    self.fail(f"an unkillable process holds {uuid}, which is not drained")
            return
        record = self._known_end(row)
        if record is None or record.unkillable:  # it was given up before it ended
            if (row["exit_code"], row["signal"]) != (None, None):
                self.fail(f"an end of job {row['job_id']} is recorded that nobody told")
            return
        if (row["exit_code"], row["signal"]) != (command.exit_code, command.signal):
            self.fail(
                f"job {row['job_id']} ended with {command.exit_code}/{command.signal},"
                f" recorded is {row['exit_code']}/{row['signal']}"
            )
        if (cause == "ok") != (command.exit_code == 0) and cause not in ("cancelled", "timeout", "preempted"):
            self.fail(f"job {row['job_id']} ended with {command.exit_code} and is called {cause}")

    def _again(
        self, job: sqlite3.Row, row: sqlite3.Row, cause: str, spent: dict[str, int], grown: set[str]
    ) -> None:
        spec = json.loads(job["spec"])
        asked = cause in spec.get("retry_on", ())
        if cause in NEVER_AGAIN and not asked:
            self.fail(f"job {job['id']} is tried again after {cause}")
        if cause == "timeout" and not asked:
            self.fail(f"job {job['id']} is tried again after a timeout, which it did not ask for")
        paid = {"user"} if asked else PAID_FROM.get(cause)
        if paid is None or len(grown) != 1 or not grown <= paid:
            self.fail(f"job {job['id']}: {cause} was paid from {grown}, not {paid}")
        if (
            spent["user"] > job["retries"]
            or spent["infra"] > 3
            or spent["snooze"] > 20
            or spent["requeue"] > 6
        ):
            self.fail(f"job {job['id']} spent {spent} of {job['retries']} retries")
        delay = job["backoff_boot"] - self.world.boot() if job["backoff_boot"] is not None else 0.0
        if job["backoff_boot"] is not None:
            self.not_before[job["id"]] = (self.world.boot_id, job["backoff_boot"])
        if grown == {"user"}:
            full = min(spec["retry_max_delay_s"], spec["retry_delay_s"] * 2 ** (spent["user"] - 1))
            # the store may have taken its time between the decision and the commit
            if not 0.5 * full - 30.0 <= delay <= full + 0.001:
                self.fail(f"job {job['id']} waits {delay:.1f} s, not {full / 2:.1f} to {full:.1f} s")

    # -- at the begin of a command -------------------------------------------------------------------

    def started(self, shim: Shim, command: Command) -> None:
        """GO came after the commit, and there is no second copy of anything."""
        self.checks += 1
        attempt_id = shim.attempt_id
        if attempt_id in self.machine.commands:
            self.fail(f"attempt {attempt_id} was executed twice")
        row = self.db.execute(
            "SELECT attempts.*, jobs.state AS job_state FROM attempts JOIN jobs ON jobs.id = job_id"
            " WHERE attempts.id = ?",
            (attempt_id,),
        ).fetchone()
        if row is None:
            self._started_as_successor(shim, command)
            return
        if row["state"] not in ("running", "stopping") or row["shim_pid"] != shim.id.pid:
            self.fail(
                f"job {command.job_id} begins while its attempt is {row['state']}, shim {row['shim_pid']}"
            )
        if row["job_state"] in TERMINAL_WORDS:
            self.fail(f"job {command.job_id} is {row['job_state']} and begins")
        for other in self.machine.alive.values():
            if other.job_id == command.job_id and not other.killed:
                self.fail(f"two live copies of job {command.job_id}")
            if set(other.gpus) & set(command.gpus):
                self.fail(f"jobs {other.job_id} and {command.job_id} on one GPU")
        for uuid in command.gpus:
            lease = self.db.execute("SELECT attempt_id FROM leases WHERE gpu_uuid = ?", (uuid,)).fetchone()
            if lease is None or lease[0] != attempt_id:
                self.fail(f"job {command.job_id} begins on {uuid} without a lease")

    def _started_as_successor(self, shim: Shim, command: Command) -> None:
        """It goes before its claim: then the database names it for these GPUs, and they are free."""
        row = self.db.execute(
            "SELECT slots, shim_pid, state, held FROM successors JOIN jobs ON jobs.id = job_id"
            " WHERE attempt_id = ?",
            (shim.attempt_id,),
        ).fetchone()
        if row is None or row["shim_pid"] != shim.id.pid:
            self.fail(f"a command of job {command.job_id} begins, of which the database knows no attempt")
            return
        if row["state"] != "pending" or row["held"]:
            self.fail(f"job {command.job_id} begins while it is {row['state']}, held: {row['held']}")
        if list(command.gpus) not in json.loads(row["slots"]):
            self.fail(f"job {command.job_id} begins on {command.gpus}, for which it is not named")
        before = self.machine.commands.get(shim.taken.after or "") if shim.taken is not None else None
        if before is None or before.alive or before.exit_code != 0 or before.gpus != command.gpus:
            self.fail(f"job {command.job_id} begins after no attempt that has ended well on its GPUs")
        if before is not None and before.attempt_id in self.taken_from:
            self.fail(f"jobs {command.job_id} and {self.taken_from[before.attempt_id]} take the same slot")
        if before is not None:
            self.taken_from[before.attempt_id] = command.job_id
            self.before[shim.attempt_id] = before.attempt_id
        for other in self.machine.alive.values():
            if other.job_id == command.job_id and not other.killed:
                self.fail(f"two live copies of job {command.job_id}")
            if set(other.gpus) & set(command.gpus):
                self.fail(f"jobs {other.job_id} and {command.job_id} on one GPU")
        for uuid in command.gpus:
            lease = self.db.execute("SELECT attempt_id FROM leases WHERE gpu_uuid = ?", (uuid,)).fetchone()
            if lease is not None and not self._leads_to(lease[0], before.attempt_id if before else ""):
                self.fail(f"job {command.job_id} begins on {uuid}, which job {lease[0]} has a lease of")

    # -- what people were told -----------------------------------------------------------------------

    def submitted(self, key: str | None, ids: list[int]) -> None:
        """A submit was answered."""
        if key is not None and self.keys.setdefault(key, ids) != ids:
            self.fail(f"one key, two sets of jobs: {self.keys[key]} and {ids}")
        self.accepted.update(one for one in ids if one in self.state)

    def uptime(self) -> float:
        """For how long, in all, there has been a daemon."""
        return self._uptime + (self.world.now - self.up_since if self.up_since is not None else 0.0)

    def down(self) -> None:
        """The daemon is gone."""
        self._uptime, self.up_since = self.uptime(), None

    def cancel_answered(self, job_id: int, grace_s: float) -> None:
        """A cancel was answered: while the daemon lives, the job must be gone soon after its grace."""
        row = self.db.execute(
            "SELECT id FROM attempts WHERE job_id = ? AND state <> 'ended'", (job_id,)
        ).fetchone()
        if row is not None:
            due = self.uptime() + grace_s + CANCEL_SLACK_S
            self.cancel_due[row["id"]] = min(due, self.cancel_due.get(row["id"], due))

    def look_at_cancels(self) -> None:
        """Every cancel that is overdue is a broken promise."""
        uptime = self.uptime()
        for attempt_id, due in list(self.cancel_due.items()):
            command = self.machine.alive.get(attempt_id)
            if command is None or command.killed:
                del self.cancel_due[attempt_id]
            elif uptime > due:
                self.fail(f"job {command.job_id} was cancelled and still runs {uptime - due:.0f} s too long")

    def _leads_to(self, first: str, last: str) -> bool:
        """Return True if the attempt `last` took over from `first`, or from one that did, or is it."""
        while last:
            if last == first:
                return True
            last = self.before.get(last, "")
        return False

    # -- at the end ----------------------------------------------------------------------------------

    def at_rest(self) -> None:
        """Nothing is lost, nothing is left."""
        db = self.db
        if [row[0] for row in db.execute("PRAGMA integrity_check")] != ["ok"]:
            self.fail("integrity_check")
        if db.execute("PRAGMA foreign_key_check").fetchall():
            self.fail("foreign_key_check")
        jobs = {row["id"]: row for row in db.execute("SELECT * FROM jobs")}
        lost = self.accepted - set(jobs)
        if lost:
            self.fail(f"accepted and lost: {sorted(lost)}")
        for job_id, row in jobs.items():
            if row["state"] != self.state[job_id]:
                self.fail(f"job {job_id} is {row['state']}, its events say {self.state[job_id]}")
            if State(row["state"]) not in TERMINAL:
                self.fail(f"job {job_id} is {row['state']} at the end")
        counted: dict[str, int] = {}
        for row in jobs.values():
            counted[row["state"]] = counted.get(row["state"], 0) + 1
        kept = {row[0]: row[1] for row in db.execute("SELECT state, n FROM job_counts WHERE n > 0")}
        if kept != counted:
            self.fail(f"kept counts {kept}, counted {counted}")
        if db.execute("SELECT count(*) FROM leases").fetchone()[0]:
            self.fail("leases are left")
        if self.machine.shims:
            self.fail(f"shims are left: {sorted(self.machine.shims)}")
        running = [command.job_id for command in self.machine.alive.values() if not command.killed]
        if running:
            self.fail(f"jobs {running} run at the end")
