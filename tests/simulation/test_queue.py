"""The queue against a small model of it: hypothesis makes up what people, jobs, GPUs and crashes do, the real
SQL and the real planner carry it out, and a few lines of Python that share nothing with them say what must
have come of it."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from leptond.base.errors import WrongState
from leptond.config import Settings
from leptond.core.admission.admission import Defaults, admit
from leptond.core.jobs.model import ExitRecord, Identity, JobSpec, State
from leptond.core.outcome.classify import classify
from leptond.core.outcome.evidence import Evidence
from leptond.store.database.transaction import transaction
from leptond.store.planning import snapshot
from leptond.store.queue import arrays, attempts, compact_arrays, gpus, jobs, sets
from leptond.store.queue import lists as queries
from leptond.store.recovery.salvage import COUNTS
from tests.simulation.store import database

GPUS, SLOTS = 4, 2
OVER, AT_ONCE, LOW, HIGH = 4, 2, 7, 8
"""Of leptond.store.queue.compact_arrays: few enough that arrays of a dozen members are folded, and more
than can run."""

ARRAYS = [("0-2", 3, None), ("0-3%1", 4, 1), ("0-13", 14, None), ("5-40:3,7%2", 13, 2), ("3,0-11", 12, None)]
ENDED = {"succeeded", "failed", "timed_out", "cancelled", "lost"}
LIVE = {"starting", "running", "stopping"}


@dataclass
class Job:
    """What the model knows of a job."""

    number: int
    gpus: int
    priority: int
    retries: int
    held: bool
    begin_at: float
    state: str = "pending"
    attempt: int = 0
    failures: int = 0
    requeues: int = 0
    wakes_at: tuple[float, float] = (0.0, 0.0)  # earliest and latest end of the back-off
    backs_off: bool = False
    after: list[tuple[int, str]] = field(default_factory=list)
    array: int | None = None
    limit: int | None = None
    copy_of: int | None = None
    stop: str | None = None


class Queue(RuleBasedStateMachine):
    """Time is in seconds from 0, for both clocks."""

    numbers = Bundle("numbers")
    arrays = Bundle("arrays")

    def __init__(self) -> None:
        super().__init__()
        self.db = database()
        self.now = 1000.0
        self.model: dict[int, Job] = {}
        self.drained: set[int] = set()
        self.policy = Settings().policy()
        found = [
            gpus.Found(uuid=f"G{i}", index=i, name="g", memory_bytes=1 << 34, simulated=False)
            for i in range(GPUS)
        ]
        self.write(gpus.sync, found, self.now)

    def teardown(self) -> None:
        self.db.close()

    def write(self, change, *args, **more):
        ((value, failure),) = transaction(self.db, [lambda db: change(db, *args, **more)])
        if failure is not None:
            raise failure
        return value

    def row(self, number):
        return self.db.execute("SELECT * FROM jobs WHERE id = ?", (number,)).fetchone()

    def live_attempt(self, number):
        return self.db.execute(
            "SELECT * FROM attempts WHERE job_id = ? AND state <> 'ended'", (number,)
        ).fetchone()

    # -- people ------------------------------------------------------------------------------------

    @rule(
        target=numbers,
        gpus=st.sampled_from([0, 1, 1, 2, 4]),
        priority=st.integers(-2, 2),
        retries=st.integers(0, 2),
        hold=st.booleans(),
        later=st.sampled_from([0.0, 0.0, 0.0, 500.0]),
        kind=st.sampled_from(["after", "after_any", "after_fail"]),
        on=st.one_of(st.none(), numbers),
    )
    def submit(self, gpus, priority, retries, hold, later, kind, on):
        return multiple(*self.submitted(gpus, priority, retries, hold, later, None, kind, on))

    @rule(
        target=arrays,
        gpus=st.sampled_from([0, 1, 2]),
        priority=st.integers(-2, 2),
        retries=st.integers(0, 1),
        hold=st.sampled_from([False, False, False, True]),
        later=st.sampled_from([0.0, 0.0, 0.0, 500.0]),
        array=st.sampled_from(ARRAYS),
        kind=st.sampled_from(["after", "after_any", "after_fail"]),
        on=st.one_of(st.none(), numbers, arrays),
    )
    def submit_array(self, gpus, priority, retries, hold, later, array, kind, on):
        """Small ones are rows at once, the others are folded."""
        ids = self.submitted(gpus, priority, retries, hold, later, array, kind, on)
        return ids[0]

    @rule(target=numbers, array=arrays, at=st.integers(0, 40))
    def single_out(self, array, at):
        """From now on this member is turned to alone, too."""
        ids = self.members(array)
        return ids[at % len(ids)]

    def members(self, array):
        return [job.number for job in self.model.values() if job.array == array]

    @rule(
        target=numbers,
        kind=st.sampled_from(["after", "after_any", "after_fail"]),
        on=arrays,
    )
    def submit_after_array(self, kind, on):
        return self.submitted(1, 0, 0, False, 0.0, None, kind, f"{on}_*")[0]

    @rule(
        array=arrays, verb=st.sampled_from(["cancel", "hold", "release", "edit"]), number=st.integers(-3, 3)
    )
    def whole_array(self, array, verb, number):
        """As the API does it: in one step, but for an edit, which changes what is folded first."""
        how = {"by": "ada", "now": self.now}
        members = sets.Wanted(filter=queries.Filter(array_id=array))
        if verb == "cancel":
            self.write(sets.cancel, members, grace_s=1.0, reason=None, **how)
        elif verb != "edit":
            self.write(getattr(sets, verb), members, **how)
        else:
            changes = {"priority": number}
            self.write(arrays.edit_compact, array, changes, by_admin=False, **how)
            at = 2**53
            while some := arrays.unended(self.db, array, at, newest_first=True):
                self.write(arrays.each, some, jobs.edit, changes=changes, if_version=None, **how)
                at = some[-1][0]
        for one in self.members(array):
            job = self.model[one]
            if job.state in ENDED:
                continue
            if verb == "cancel":
                job.state, job.stop = (
                    ("cancelled", job.stop) if job.state == "pending" else ("stopping", "cancel")
                )
            elif verb == "edit":
                job.priority = number
            elif job.state == "pending":
                if verb == "release" and job.held:
                    job.requeues = 0
                job.held = verb == "hold"
        found = arrays.find(self.db, array)
        assert found.counts == Counter(self.model[one].state for one in self.members(array))

    @rule(array=arrays)
    def unfold_more(self, array):
        """Sooner than anybody needs it."""
        self.write(compact_arrays.refill, array, 3, self.now)

    def submitted(self, gpus, priority, retries, hold, later, array, kind, on):
        more = {}
        if later:
            more["begin_at"] = datetime.fromtimestamp(self.now + later, UTC)
        if array is not None:
            more["array"] = array[0]
        if on is not None:
            more[kind] = [str(on)]
        spec = JobSpec(
            argv=["x"],
            name="x",
            gpus=gpus,
            priority=priority,
            retries=retries,
            retry_delay_s=100.0,
            hold=hold,
            fail_fast=False,
            **more,
        )
        one = admit(spec, gpus=GPUS, home="/", defaults=Defaults())
        stored, _ = self.write(jobs.submit, [one], user="ada", now=self.now, max_pending=10_000)
        ids = stored[0].ids
        assert len(ids) == (array[1] if array is not None else 1)
        awaited = self.members(int(on[:-2])) if isinstance(on, str) else [on] if on is not None else []
        for number in ids:
            self.model[number] = Job(
                number,
                gpus,
                priority,
                retries,
                hold,
                self.now + later if later else 0.0,
                after=[(one, kind) for one in awaited],
                array=ids[0] if array is not None else None,
                limit=array[2] if array is not None else None,
            )
        return ids

    @rule(number=numbers)
    def cancel(self, number):
        job = self.model[number]
        if job.state in ENDED:
            with pytest.raises(WrongState):
                self.write(jobs.cancel, str(number), by="ada", grace_s=1.0, reason=None, now=self.now)
            return
        self.write(jobs.cancel, str(number), by="ada", grace_s=1.0, reason=None, now=self.now)
        if job.state == "pending":
            job.state = "cancelled"
        else:
            job.state, job.stop = "stopping", "cancel"

    @rule(number=numbers, verb=st.sampled_from(["hold", "release"]))
    def hold_or_release(self, number, verb):
        job = self.model[number]
        act = jobs.hold if verb == "hold" else jobs.release
        if job.state != "pending":
            with pytest.raises(WrongState):
                self.write(act, str(number), by="ada", now=self.now)
            return
        self.write(act, str(number), by="ada", now=self.now)
        if verb == "release" and job.held:
            job.requeues = 0
        job.held = verb == "hold"

    @rule(target=numbers, number=numbers)
    def retry(self, number):
        job = self.model[number]
        root = job.copy_of or number
        family = [one for one in self.model.values() if root in (one.number, one.copy_of)]

        def again():
            return self.write(jobs.retry, str(number), user="ada", now=self.now, max_pending=10_000)

        if job.state == "pending" and job.backs_off:
            assert again()[1] is False
            job.backs_off = False
            return multiple()
        if job.state not in ENDED or any(one.state not in ENDED for one in family):
            with pytest.raises(WrongState):
                again()
            return multiple()
        stored, copied = again()
        assert copied
        (new,) = stored.ids
        self.model[new] = Job(new, job.gpus, job.priority, job.retries, False, 0.0, copy_of=root)
        return multiple(new)

    @rule(number=numbers, priority=st.integers(-5, 5))
    def reprioritise(self, number, priority):
        job = self.model[number]
        if job.state in ENDED:
            with pytest.raises(WrongState):
                self.write(
                    jobs.edit, str(number), {"priority": priority}, by="ada", if_version=None, now=self.now
                )
            return
        self.write(jobs.edit, str(number), {"priority": priority}, by="ada", if_version=None, now=self.now)
        job.priority = priority

    @rule(index=st.integers(0, GPUS - 1), down=st.booleans())
    def gpu(self, index, down):
        self.write(gpus.set_drained, index, "fan" if down else None, "ada", self.now)
        (self.drained.add if down else self.drained.discard)(index)

    # -- time --------------------------------------------------------------------------------------

    def dependency(self, job):
        """met, waiting or failed."""
        words = {self.edge(on, kind)[0] for on, kind in job.after}
        return "failed" if "failed" in words else "waiting" if "waiting" in words else "met"

    def edge(self, on, kind):
        """The state of one dependency, and who is waited for: the job itself, or a later retry of it."""
        root = self.model[on].copy_of or on
        tries = [one for one in self.model.values() if one.number >= on and root in (one.number, one.copy_of)]
        ends = [one.state for one in tries if one.state in ENDED]
        if any(kind == "after_any" or (kind == "after") == (end == "succeeded") for end in ends):
            return "met", None
        live = next((one for one in tries if one.state not in ENDED), None)
        return ("waiting", live) if live is not None else ("failed", None)

    def never(self, job):
        """Whether a job can never start, because of an end or behind another such job."""
        edges = [self.edge(on, kind) for on, kind in job.after]
        return any(word == "failed" or (word == "waiting" and self.never(live)) for word, live in edges)

    def could_start(self, job, *, surely):
        woken = not job.backs_off or job.wakes_at[1 if surely else 0] <= self.now
        return (
            job.state == "pending"
            and not job.held
            and job.begin_at <= self.now
            and woken
            and self.dependency(job) == "met"
        )

    def free(self):
        taken = {row[0] for row in self.db.execute("SELECT gpu_uuid FROM leases")}
        return {f"G{i}" for i in range(GPUS) if i not in self.drained} - taken

    @rule(passes=st.sampled_from([0.0, 1.0, 60.0, 600.0, 7200.0]), ready=st.booleans())
    def tick(self, passes, ready):
        """The scheduler's turn; `ready`: the shims stand at their gates before anything else happens."""
        self.now += passes
        while short := compact_arrays.short(self.db):
            for one in short:
                self.write(compact_arrays.refill, one.array_id, one.missing, self.now)
        decided = snapshot.decide(
            self.db, now=self.now, boot=self.now, unhealthy={}, cpu_slots=SLOTS, policy=self.policy
        )
        self.write(snapshot.remember, decided.plan.carried)
        before = self.free()
        waiting = [job for job in self.model.values() if self.could_start(job, surely=True)]
        slots = SLOTS - sum(1 for job in self.model.values() if job.state in LIVE and not job.gpus)
        started = []
        for start in decided.plan.starts:
            job = self.model[start.id]
            assert self.could_start(job, surely=False), f"{job} could not start"
            assert len(set(start.gpus)) == job.gpus
            assert set(start.gpus) <= before
            before -= set(start.gpus)
            slots -= not job.gpus
            assert slots >= 0
            claimed = self.write(
                attempts.claim,
                start,
                attempt_id=f"{job.number:016x}{job.attempt:016x}",
                now=self.now,
                boot=self.now,
                boot_id="boot",
            )
            assert claimed is not None
            job.attempt += 1
            assert claimed.attempt.number == job.attempt
            job.state, job.backs_off, job.stop = "starting", False, None
            started.append(job)
        for job in started:
            members = [one for one in self.model.values() if one.array == job.array and one.state in LIVE]
            assert job.limit is None or len(members) <= job.limit
            for other in waiting:
                alike = (other.gpus, other.array, other.attempt, other.begin_at) == (job.gpus, None, 0, 0.0)
                alike = alike and job.array is None and job.attempt == 1 and job.begin_at == 0.0
                if alike and other.number < job.number and other.priority >= job.priority:
                    assert other.state != "pending", f"{other} was passed over by {job}"
        if not started and len(waiting) == 1:
            (only,) = waiting
            full = only.limit is not None and only.limit <= sum(
                one.array == only.array and one.state in LIVE for one in self.model.values()
            )
            fits = only.gpus <= len(before) if only.gpus else slots > 0
            assert full or not fits, f"{only} waits alone and fits"
        if ready:
            self.get_ready()

    @rule()
    def get_ready(self):
        """Shims report; their gates open where nobody has cancelled meanwhile."""
        for job in self.model.values():
            row = self.live_attempt(job.number) if job.state in LIVE else None
            if row is None or row["shim_pid"] is not None:
                continue
            shim = Identity(boot_id="boot", pid=1000 + job.number, start_ticks=1)
            wanted = self.write(attempts.started, row["id"], shim=shim, now=self.now, deadline_at=None)
            assert wanted == (job.state == "starting")
            if wanted:
                job.state = "running"

    # -- ends --------------------------------------------------------------------------------------

    def end(self, job, **seen):
        row = self.live_attempt(job.number)
        record = None
        if not seen.get("shim_lost"):
            record = ExitRecord(
                attempt_id=row["id"],
                boot_id="boot",
                run_s=100.0,
                ended_at=self.now,
                exit_code=seen.get("exit_code"),
                signal=seen.get("signal"),
                stop_reason=seen.get("stop_reason"),
                never_started=seen.get("never_started", False),
            )
        decision = self.write(
            attempts.finish,
            row["id"],
            verdict=classify(Evidence(run_s=100.0, **seen)),
            record=record,
            now=self.now,
            boot=self.now,
            boot_id="boot",
            roll=0.5,
        )
        assert decision is not None
        again = self.write(
            attempts.finish,
            row["id"],
            verdict=classify(Evidence(run_s=100.0, **seen)),
            record=record,
            now=self.now,
            boot=self.now,
            boot_id="boot",
            roll=0.5,
        )
        assert again is None, "an attempt ends once"

    def requeue(self, job):
        job.requeues += 1
        job.state = "pending"
        job.held = job.held or job.requeues > 5
        delay = 0.0 if job.requeues == 1 else min(60.0, 2.0 ** (job.requeues - 1))
        job.backs_off = delay > 0 and not job.requeues > 5
        job.wakes_at = (self.now + delay, self.now + delay)

    @rule(number=numbers, how=st.sampled_from(["ok", "fail", "timeout", "config", "lost", "segfault"]))
    def finish(self, number, how):
        job = self.model[number]
        row = self.live_attempt(number)
        if job.state not in ("running", "stopping") or row is None or row["shim_pid"] is None:
            return
        if job.stop == "cancel" and how != "lost":
            self.end(job, exit_code=0, stop_reason="cancel")
            job.state = "cancelled"
            return
        if how == "lost":
            stopped = {"stop_reason": "cancel"} if job.stop == "cancel" else {}
            self.end(job, shim_lost=True, **stopped)
            if job.stop == "cancel":
                job.state = "cancelled"
            else:
                self.requeue(job)
            return
        seen = {
            "ok": {"exit_code": 0},
            "fail": {"exit_code": 1},
            "timeout": {"signal": 9, "stop_reason": "timeout"},
            "config": {"exit_code": 127},
            "segfault": {"signal": 11},
        }[how]
        self.end(job, **seen)
        if how in ("fail", "segfault") and job.failures < job.retries:
            job.failures += 1
            full = min(900.0, 100.0 * 2 ** (job.failures - 1))
            job.state, job.backs_off = "pending", True
            job.wakes_at = (self.now + full / 2, self.now + full)
        else:
            job.state = {"ok": "succeeded", "timeout": "timed_out"}.get(how, "failed")

    @rule()
    def crash(self):
        """The daemon dies and comes back: what never got its GO goes back into the queue, the rest goes
        on."""
        for job in self.model.values():
            row = self.live_attempt(job.number) if job.state in LIVE else None
            if row is None or row["shim_pid"] is not None:
                continue
            if job.stop == "cancel":
                self.end(job, stop_reason="cancel", never_started=True)
                job.state = "cancelled"
            else:
                self.end(job, never_started=True)
                self.requeue(job)

    # -- what always holds -------------------------------------------------------------------------

    @invariant()
    def the_same(self):
        held = {row["gpu_uuid"]: row["attempt_id"] for row in self.db.execute("SELECT * FROM leases")}
        count: dict[str, int] = {}
        for job in self.model.values():
            row = jobs.find(self.db, str(job.number))
            assert row.state == job.state, f"{job} is {row.state}"
            assert (row.attempt, row.priority) == (job.attempt, job.priority)
            assert row.held == job.held
            assert row.spent_user == job.failures
            assert row.spent_requeue == job.requeues
            count[job.state] = count.get(job.state, 0) + 1
            if job.state == "pending":
                assert (row.deps_failed > 0) == (self.dependency(job) == "failed")
                assert (row.deps_waiting > 0) >= (self.dependency(job) == "waiting")
                assert (row.never_cause is not None) == self.never(job)
            if job.array is not None:
                assert jobs.find(self.db, f"{job.array}_{row.array_index}") == row
            live = self.live_attempt(job.number)
            assert (live is not None) == (job.state in LIVE)
            if live is not None:
                assert list(held.values()).count(live["id"]) == job.gpus
        assert len(held) == sum(job.gpus for job in self.model.values() if job.state in LIVE)
        kept = {name: self.told(name) for name in COUNTS}
        assert dict(kept["job_counts"]) == count
        self.db.execute("BEGIN")
        for name in COUNTS.keys() - {"job_counts"}:
            self.db.execute(f"DELETE FROM {name}")
        for again in COUNTS.values():
            self.db.execute(again)
        assert kept == {name: self.told(name) for name in COUNTS}, "what is kept is what there is to count"
        self.db.execute("ROLLBACK")
        self.lists()

    def told(self, name):
        rows = [tuple(row) for row in self.db.execute(f"SELECT * FROM {name}")]
        return sorted(row for row in rows if name == "arrays" or row[-1])

    def lists(self):
        """Every list, read in pages, has each job once, folded or not."""
        for listing, wanted, order in (
            (queries.newest, queries.Filter(), lambda job: -job.number),
            (
                queries.newest,
                queries.Filter(states=[State.CANCELLED, State.PENDING]),
                lambda job: -job.number,
            ),
            (
                queries.in_queue_order,
                queries.Filter(states=[State.PENDING]),
                lambda job: (-job.priority, job.number),
            ),
        ):
            states = wanted.states or list(State)
            there = sorted((job for job in self.model.values() if job.state in states), key=order)
            seen, cursor = [], None
            while True:
                page, cursor = listing(self.db, wanted, limit=7, cursor=cursor)
                seen += [(job.id, job.state, job.array_id) for job in page]
                if cursor is None:
                    break
            assert seen == [(job.number, job.state, job.array) for job in there]


EXAMPLES = int(os.environ.get("LEPTOND_QUEUE_EXAMPLES", "15"))


def test_the_queue_is_what_the_model_says(monkeypatch):
    for name, value in (("OVER", OVER), ("AT_ONCE", AT_ONCE), ("LOW", LOW), ("HIGH", HIGH)):
        monkeypatch.setattr(compact_arrays, name, value)
    run_state_machine_as_test(
        Queue,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=50 if EXAMPLES > 15 else 30,
            derandomize=EXAMPLES <= 15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
