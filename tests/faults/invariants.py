"""One checker for every fault test. It reads outside evidence only: a copy of the database, the attempts'
directories, /proc, and the witness file that the jobs wrote."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from leptond.core.jobs.model import LEGAL, TERMINAL, State
from leptond.core.outcome.retry import LIMITS
from leptond.store.accounting import ledger
from tests.support.daemon import alive_with_cookie


class Ledger:
    """The ledger of a copy of the database, over all of its time, wherever clocks have jumped to."""

    def __init__(self, db: sqlite3.Connection) -> None:
        moments = "SELECT at FROM events UNION ALL SELECT claimed_at FROM attempts UNION ALL SELECT ended_at"
        newest = db.execute(f"SELECT max(at) FROM ({moments} FROM attempts)").fetchone()[0] or 0.0
        self.imbalance_ms = ledger.imbalance_ms(db, 0.0, newest + 1.0)
        self.spans = {fact.span.id: fact.span for fact in ledger.history(db, 0.0, newest + 1.0).attempts}


STALE = 4
"""How many transactions with starts may come between a look at the queue and the start that comes of it: the
scheduler has one look under way, and each of the four GPUs of the rig may meanwhile be handed on."""


class Evidence:
    """What is known from outside about a state directory and its witness file."""

    def __init__(self, state_dir: Path, witness: Path) -> None:
        self.state_dir = state_dir
        with tempfile.TemporaryDirectory() as copy:
            for file in state_dir.glob("leptond.db*"):
                shutil.copy(file, copy)
            db = sqlite3.connect(Path(copy) / "leptond.db")
            db.row_factory = sqlite3.Row
            self.integrity = [row[0] for row in db.execute("PRAGMA integrity_check")]
            self.foreign_keys = db.execute("PRAGMA foreign_key_check").fetchall()
            self.jobs = {row["id"]: dict(row) for row in db.execute("SELECT * FROM jobs")}
            self.attempts = [
                dict(row) for row in db.execute("SELECT * FROM attempts ORDER BY job_id, number")
            ]
            self.dependencies = [dict(row) for row in db.execute("SELECT * FROM dependencies")]
            self.leases = [dict(row) for row in db.execute("SELECT * FROM leases")]
            self.events = [dict(row) for row in db.execute("SELECT * FROM events ORDER BY id")]
            self.verdicts = dict(
                db.execute("SELECT job_id, max(verdict) FROM rungs GROUP BY job_id").fetchall()
            )
            self.counts = dict(db.execute("SELECT state, n FROM job_counts").fetchall())
            self.ledger = Ledger(db)
            db.close()
        lines = witness.read_text().splitlines() if witness.exists() else []
        self.witness: list[dict[str, Any]] = [json.loads(line) for line in lines]


def check(
    seen: Evidence,
    accepted: Iterable[int],
    *,
    quiet: bool = True,
    ordered: bool = False,
    clock_jumped: bool = False,
) -> None:
    """Asserts invariants I1 to I12. `accepted`: ids of jobs whose submit was answered. `quiet`: nothing
    should be going on any more. `ordered`: the policy is one that goes by priority and number alone (I9).
    `clock_jumped`: times by the wall clock say nothing."""
    sound(seen, accepted)
    _one_copy_at_a_time(seen)
    _one_owner_a_gpu(seen)
    _ends_are_true(seen)
    if not clock_jumped:
        _nothing_begins_early(seen)
    if ordered and not clock_jumped:
        _order_is_kept(seen)
    check_ledger(seen)
    if quiet:
        _nothing_is_left(seen)


def sound(seen: Evidence, accepted: Iterable[int]) -> None:
    """Asserts what holds of a database at any moment, whatever runs (I1, I5, I6, I10)."""
    _database(seen)
    _accepted_jobs_exist(seen, accepted)
    _legal_paths(seen)
    _stopped_early_for_a_reason(seen)
    _attempts_are_numbered(seen)


def _database(seen: Evidence) -> None:
    """I10."""
    assert seen.integrity == ["ok"]
    assert seen.foreign_keys == []
    counted: dict[str, int] = defaultdict(int)
    for job in seen.jobs.values():
        counted[job["state"]] += 1
    assert {state: n for state, n in seen.counts.items() if n} == dict(counted)


def _accepted_jobs_exist(seen: Evidence, accepted: Iterable[int]) -> None:
    """I1."""
    lost = set(accepted) - set(seen.jobs)
    assert not lost, f"accepted and lost: {sorted(lost)}"


def _spans(seen: Evidence) -> dict[str, dict[str, Any]]:
    """Start and end of every attempt that a witness saw; an end that was not seen is the attempt's own."""
    spans: dict[str, dict[str, Any]] = {}
    for line in seen.witness:
        assert line["what"] != "clash", f"two copies live at once: {line}"
        if line["what"] == "start":
            assert line["attempt_id"] not in spans, f"started twice: {line}"
            spans[line["attempt_id"]] = {**line, "until": None}
        else:
            spans[line["attempt_id"]]["until"] = line["at"]
            spans[line["attempt_id"]]["code"] = line["code"]
    return spans


def _no_overlap(spans: list[dict[str, Any]], what: str) -> None:
    ordered = sorted(spans, key=lambda span: span["at"])
    for one, two in pairwise(ordered):
        assert one["until"] is None or one["until"] <= two["at"], f"two live at once on {what}: {one} {two}"


def _one_copy_at_a_time(seen: Evidence) -> None:
    """I2."""
    by_job = defaultdict(list)
    for span in _spans(seen).values():
        by_job[span["job_id"]].append(span)
    for job_id, spans in by_job.items():
        _no_overlap(spans, f"job {job_id}")


def _one_owner_a_gpu(seen: Evidence) -> None:
    """I3."""
    by_gpu = defaultdict(list)
    for span in _spans(seen).values():
        for gpu in span["gpus"]:
            by_gpu[gpu].append(span)
    for gpu, spans in by_gpu.items():
        _no_overlap(spans, gpu)


def _ends_are_true(seen: Evidence) -> None:
    """I4: the recorded exit is the one that the job itself announced."""
    spans = _spans(seen)
    for attempt in seen.attempts:
        span = spans.get(attempt["id"])
        if attempt["state"] != "ended":
            continue
        if attempt["class"] == "never-started":
            assert span is None, f"ran although it never started: {attempt['id']}"
        elif span is not None and span["until"] is not None and attempt["class"] != "infra-node":
            if attempt["exit_code"] is None and attempt["signal"] is None:
                # its shim died before the record: no exit is made up
                assert attempt["class"] not in ("ok", "user"), (attempt, span)
            else:
                assert attempt["exit_code"] == span["code"] or attempt["signal"] == 9, (attempt, span)


def _legal_paths(seen: Evidence) -> None:
    """I5, from the events."""
    state: dict[int, str] = {}
    for event in seen.events:
        data = json.loads(event["data"])
        if event["type"] == "job.submitted":
            state[event["job_id"]] = "pending"
        elif "to" in data and event["job_id"] is not None:
            old = state[event["job_id"]]
            assert data["from"] == old, f"job {event['job_id']}: an event is missing before {dict(event)}"
            assert State(data["to"]) in LEGAL[State(old)], dict(event)
            state[event["job_id"]] = data["to"]
    for job_id, job in seen.jobs.items():
        assert job["state"] == state[job_id], (
            f"job {job_id} is {job['state']}, its events say {state[job_id]}"
        )


def _stopped_early_for_a_reason(seen: Evidence) -> None:
    """A trial is stopped early only by a verdict at one of its rungs, and then is over for good."""
    for job in seen.jobs.values():
        if job["class"] == "stopped-early":
            assert seen.verdicts.get(job["id"]) == "stop", f"job {job['id']} was stopped at no rung"
            assert job["state"] == "cancelled", dict(job)
        elif State(job["state"]) not in TERMINAL and seen.verdicts.get(job["id"]) == "stop":
            assert job["state"] == "stopping", f"job {job['id']} goes on although its sweep has stopped it"


def _attempts_are_numbered(seen: Evidence) -> None:
    """I6, and I7: no attempt beyond the budget."""
    numbers = defaultdict(list)
    for attempt in seen.attempts:
        numbers[attempt["job_id"]].append(attempt["number"])
    for job_id, found in numbers.items():
        assert found == list(range(1, len(found) + 1)), f"job {job_id} has attempts {found}"
        assert seen.jobs[job_id]["attempt"] == len(found)
    for job in seen.jobs.values():
        assert job["spent_user"] <= job["retries"]
        for budget, limit in LIMITS.items():
            assert job[f"spent_{budget}"] <= limit, f"job {job['id']} overdraws its {budget} budget"


def _nothing_begins_early(seen: Evidence) -> None:
    """I7: no start before the begin time, none before a back-off is over. By the wall clock, which a test
    that lets it jump does not compare."""
    for line in seen.witness:
        begin = seen.jobs[line["job_id"]]["begin_at"]
        if line["what"] == "start" and begin is not None and "wall" in line:
            assert line["wall"] >= begin, f"job {line['job_id']} began {begin - line['wall']:.3f} s early"
    not_before: dict[int, float] = {}
    for event in seen.events:
        data = json.loads(event["data"])
        if event["type"] == "job.requeued":
            not_before[event["job_id"]] = event["at"] + data["delay_s"]
        elif data.get("to") == "starting":
            early = not_before.get(event["job_id"], 0.0) - event["at"]
            assert early < 0.05, f"job {event['job_id']} was retried {early:.3f} s early"


def _order_is_kept(seen: Evidence) -> None:
    """I9: of two jobs that ask for the same and wait for nothing, the one that comes first in the queue (by
    priority, then by number) starts first, if it was there in time: a decision is made on a snapshot, and a
    submit may be stored between the decision and the start. By the order of the commits, not by a clock:
    starts of one transaction have one time, and so many later ones may be of an older look."""
    first_start: dict[int, int] = {}  # the number of the transaction
    there: dict[int, int] = {}
    transaction, at = 0, None
    for event in seen.events:
        if event["type"] == "job.submitted":
            there[event["job_id"]] = transaction + STALE
        elif json.loads(event["data"]).get("to") == "starting":
            if event["at"] != at:
                transaction, at = transaction + 1, event["at"]
            first_start.setdefault(event["job_id"], transaction)
    waits = {row["job_id"] for row in seen.dependencies}
    plain = defaultdict(list)
    for job in seen.jobs.values():
        free = job["begin_at"] is None and job["array_id"] is None and job["id"] not in waits
        if free and job["id"] in first_start and not json.loads(job["spec"]).get("hold"):
            plain[job["user"], job["project"], job["gpus"], job["time_limit_s"]].append(job)
    for alike in plain.values():
        for one in alike:
            for two in alike:
                ahead = (-one["priority"], one["id"]) < (-two["priority"], two["id"])
                if ahead and there[one["id"]] < first_start[two["id"]] < first_start[one["id"]]:
                    raise AssertionError(f"job {two['id']} overtook job {one['id']}")


def check_ledger(seen: Evidence) -> None:
    """I12: every GPU-millisecond is in one box, and every attempt with GPUs is in the ledger with the time
    that its own row tells."""
    assert seen.ledger.imbalance_ms == 0
    for attempt in seen.attempts:
        if not attempt["n_gpus"]:
            continue
        span = seen.ledger.spans[attempt["id"]]
        assert len(span.gpus) == attempt["n_gpus"]
        assert span.startable is None or span.startable <= span.claimed
        assert (span.end is None) == (attempt["state"] != "ended")


def _nothing_is_left(seen: Evidence) -> None:
    """I8 and I11."""
    stuck = {job["id"]: job["state"] for job in seen.jobs.values() if State(job["state"]) not in TERMINAL}
    assert not stuck, f"not at rest: {stuck}"
    assert seen.leases == []
    ids = {attempt["id"] for attempt in seen.attempts}
    alive = alive_with_cookie(ids)
    assert not alive, f"processes of ended attempts: {alive}"
    # a shim whose daemon died before it was known sees the end of its gate, and goes by itself
    deadline = time.monotonic() + 5
    while shims := alive_with_cookie(ids, b"LEPTOND_SHIM"):
        assert time.monotonic() < deadline, f"shims of ended attempts: {shims}"
        time.sleep(0.01)
