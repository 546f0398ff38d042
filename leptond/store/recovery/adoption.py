"""Attempts that exist on the machine and that this database does not know: a backup was put back, or rows
were lost. They are written down as if they had been claimed here; what follows is an ordinary reconcile."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from leptond.attempt_files.directory import OnDisk, command_pid, is_alive
from leptond.core.jobs.model import LIVE, TERMINAL, FailureClass, Identity, State
from leptond.core.jobs.states import UNFINISHED, AttemptState
from leptond.store.database import events, rows
from leptond.store.database.conditions import ATTEMPT_LIVES, IS_LIVE, state_in
from leptond.store.queue import compact_arrays, jobs, scripts
from leptond.store.queue.attempts import get

ORPHAN = "orphan"
"""The label of a job that was taken in without the database knowing it."""

_OF_ITS_LIFE = frozenset(
    {
        "id",
        "state",
        "held",
        "hold_reason",
        "deps_waiting",
        "deps_failed",
        "started_at",
        "ended_at",
        "deadline_at",
        "backoff_at",
        "backoff_boot",
        "begin_at",
        "attempt",
        "exit_code",
        "signal",
        "class",
        "explanation",
        "gpu_ms",
        "version",
    }
)
"""Columns of a job that hold its life, not its spec."""

UNKNOWN_BYTES = 1 << 50
"""The memory of a device that is known by its lease only, until it is looked at."""

SPARE_IDS, SPARE_EVENTS = 1000, 100_000
"""The distance by which the numbers of jobs and events jump when the database turned out to be older than the
machine: those in between may have been given out, and are not given again."""


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A job as the database knows it: its state and the number of its last attempt."""

    state: State
    attempt: int


def highest_id(db: sqlite3.Connection) -> int:
    """The highest number that a job was ever given by this database."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
    return row[0] if row is not None else 0


def unfinished(db: sqlite3.Connection, ids: Sequence[int]) -> dict[int, Known]:
    """Those of `ids` that are jobs of this database and have not ended."""
    found: dict[int, Known] = {}
    is_unfinished = state_in(UNFINISHED)
    count = db.execute(f"SELECT sum(n) FROM job_counts WHERE {is_unfinished}").fetchone()[0]
    if count < len(ids):
        # few have not ended: they are read rather than each of `ids` looked for
        asked = set(ids)
        looks: list[tuple[str, tuple[int, ...]]] = [
            (f"SELECT id, state, attempt FROM jobs WHERE {is_unfinished}", ())
        ]
    else:
        asked = None
        looks = [
            (
                f"SELECT id, state, attempt FROM jobs WHERE id IN ({', '.join('?' * len(part))})"
                " AND ended_at IS NULL",
                tuple(part),
            )
            for part in (ids[begin : begin + 500] for begin in range(0, len(ids), 500))
        ]
    for query, values in looks:
        for row in db.execute(query, values):
            if asked is None or row["id"] in asked:
                found[row["id"]] = Known(state=State(row["state"]), attempt=row["attempt"])
    for job_id in compact_arrays.covered(db, ids, pending=True):
        found[job_id] = Known(state=State.PENDING, attempt=0)
    return found


def known(db: sqlite3.Connection, ids: Sequence[int]) -> set[int]:
    """Those of `ids` that are jobs of this database."""
    found: set[int] = set()
    for begin in range(0, len(ids), 500):
        part = ids[begin : begin + 500]
        marks = ", ".join("?" * len(part))
        found.update(row[0] for row in db.execute(f"SELECT id FROM jobs WHERE id IN ({marks})", part))
    return found | compact_arrays.covered(db, ids)


def unidentified(db: sqlite3.Connection) -> list[tuple[str, int, int]]:
    """(attempt id, job, number) of the live attempts of which no supervising process is stored."""
    return [
        (row["id"], row["job_id"], row["number"])
        for row in db.execute(
            "SELECT attempts.* FROM jobs INDEXED BY jobs_live JOIN attempts ON attempts.job_id = jobs.id"
            f" WHERE jobs.{IS_LIVE}"
            f" AND attempts.{ATTEMPT_LIVES} AND attempts.shim_pid IS NULL"
        )
    ]


def identify(db: sqlite3.Connection, attempt_id: str, shim: Identity) -> None:
    """Store the shim of an attempt, as its directory says. Its command may have started or not: the
    shim's record decides."""
    db.execute(
        "UPDATE attempts SET shim_pid = ?, shim_start = ?, boot_id = ?, pid = coalesce(pid, ?)"
        f" WHERE id = ? AND {ATTEMPT_LIVES}",
        (shim.pid, shim.start_ticks, shim.boot_id, command_pid(shim.pid), attempt_id),
    )


def take_in(
    db: sqlite3.Connection,
    job_id: int,
    found: Sequence[OnDisk],
    *,
    user: str,
    now: float,
    boot: float,
    script: bytes | None = None,
) -> None:
    """Write the attempts `found` (one job's, by number, all unknown here) into the database: the last one
    as live, with its GPUs leased, the ones before it as ended. A job that is unknown too comes in as an
    orphan, with the `script` that its last attempt was given."""
    last = found[-1]
    compact_arrays.expand_one(db, str(job_id), now)
    row = db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        _insert_job(db, job_id, last, script, user=user, now=now)
    elif State(row["state"]) in LIVE:
        live = db.execute(
            f"SELECT id, boot_id, shim_pid, shim_start FROM attempts WHERE job_id = ? AND {ATTEMPT_LIVES}",
            (job_id,),
        ).fetchone()
        if live is not None:
            if is_alive(live["boot_id"], live["shim_pid"], live["shim_start"]):
                return  # it is there: nothing may stand beside it
            end_unseen(db, live["id"], now=now)
    for one in found[:-1] if last.attempt_id else found:
        _past(db, job_id, one, now=now)
    if last.attempt_id:
        _live(db, job_id, last, now=now, boot=boot)
    else:
        jobs.touch(db, job_id, {"attempt": last.number})
    data = {"attempts": [one.number for one in found], "unknown_job": row is None}
    events.append(db, now, "job.adopted", job=job_id, attempt=last.number, data=data)


def _insert_job(
    db: sqlite3.Connection, job_id: int, last: OnDisk, script: bytes | None, *, user: str, now: float
) -> None:
    written = dict(last.claim.get("job") or {})
    array_id, array_index = written.get("array_id"), written.get("array_index")
    if array_id is not None and (
        db.execute(
            "SELECT 1 FROM jobs WHERE array_id = ? AND array_index = ?", (array_id, array_index)
        ).fetchone()
    ):
        written |= {"array_id": None, "array_index": None, "array_limit": None}
    if written.get("retry_of") is not None and not known(db, [written["retry_of"]]):
        written["retry_of"] = None
    values = {key: value for key, value in written.items() if key in _columns(db) - _OF_ITS_LIFE}
    if (
        "queue" in values
        and not db.execute("SELECT 1 FROM queues WHERE name = ?", (values["queue"],)).fetchone()
    ):
        del values["queue"]  # into the default one
    if "spec" not in values:
        # a directory of 0.1.0 does not say what was run: such a job must not run again by itself
        values |= {
            "spec": {"argv": ["(not recorded)"], "requeue": False, "retries": 0},
            "gpus": len(last.claim.get("gpus", [])),
            "held": 1,
            "hold_reason": "taken in without its command: it cannot run again",
        }
    sha256 = values.get("script_sha256")
    if sha256 is not None and script is not None:
        scripts.put_back(db, sha256, script)
    elif sha256 is not None and scripts.content(db, sha256) is None:
        # it must not run again by itself: what it would run is another script, if any
        values |= {
            "spec": {**values["spec"], "requeue": False, "retries": 0},
            "retries": 0,
            "held": 1,
            "hold_reason": "taken in without its script: submit that again",
        }
    values = {"name": f"orphan-{job_id}", "user": user, "submitted_at": now, **values, "id": job_id}
    values["labels"] = {**(values.get("labels") or {}), ORPHAN: "recovered"}
    plain = {
        key: msgspec.json.encode(value).decode() if isinstance(value, (dict, list)) else value
        for key, value in values.items()
    }
    db.execute(
        f"INSERT INTO jobs ({', '.join(plain)}) VALUES ({', '.join('?' * len(plain))})", tuple(plain.values())
    )
    data = {"name": values["name"], "orphan": True}
    events.append(db, now, "job.submitted", job=job_id, data=data)


def _columns(db: sqlite3.Connection) -> set[str]:
    return {row["name"] for row in db.execute("PRAGMA table_info(jobs)")}


def end_unseen(db: sqlite3.Connection, attempt_id: str, *, now: float) -> None:
    """End an attempt that later ones show to be over, and put its job back among the pending ones. How
    it ended was decided by a database that is gone: it counts as a failure of the machine."""
    attempt = get(db, attempt_id)
    job = rows.job(db.execute("SELECT * FROM jobs WHERE id = ?", (attempt.job_id,)).fetchone())
    db.execute("DELETE FROM leases WHERE attempt_id = ?", (attempt_id,))
    db.execute(
        f"UPDATE attempts SET state = '{AttemptState.ENDED}', ended_at = ?, class = ?, rule = 'adopted',"
        " explanation = ? WHERE id = ?",
        (now, FailureClass.INFRA_NODE, "over before the database was put back", attempt_id),
    )
    jobs.touch(db, job.id, {"state": State.PENDING, "deadline_at": None})
    data = {"from": job.state, "to": State.PENDING, "class": FailureClass.INFRA_NODE}
    events.append(db, now, "job.requeued", job=job.id, attempt=attempt.number, data=data)


def _past(db: sqlite3.Connection, job_id: int, one: OnDisk, *, now: float) -> None:
    """An attempt that another one followed, as ended."""
    record = one.exit or {}
    started = bool(one.attempt_id) and not record.get("never_started")
    cause = FailureClass.INFRA_NODE if started else FailureClass.NEVER_STARTED
    gpus = one.claim.get("gpus", [])
    db.execute(
        "INSERT OR IGNORE INTO attempts (id, job_id, number, state, gpus, n_gpus, claimed_at, claimed_boot,"
        " boot_id, started_at, ended_at, run_s, exit_code, signal, class, rule, explanation)"
        f" VALUES (?, ?, ?, '{AttemptState.ENDED}', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'adopted', ?)",
        (
            one.attempt_id or secrets.token_hex(16),
            job_id,
            one.number,
            msgspec.json.encode(gpus).decode(),
            len(gpus),
            one.claim.get("claimed_at") or now,
            one.claim.get("claimed_boot") or 0.0,
            one.boot_id or "unknown",
            record.get("started_at"),
            record.get("ended_at") or now,
            record.get("run_s"),
            record.get("exit_code"),
            record.get("signal"),
            cause,
            "found in its directory; the database did not know it",
        ),
    )


def _live(db: sqlite3.Connection, job_id: int, one: OnDisk, *, now: float, boot: float) -> None:
    """The newest attempt, as one that runs: whether it does is for the reconciliation to find out."""
    gpus: list[dict[str, Any]] = one.claim.get("gpus", [])
    started_at = (one.exit or {}).get("started_at") or one.claim.get("claimed_at") or now
    db.execute(
        "INSERT INTO attempts (id, job_id, number, state, gpus, n_gpus, claimed_at, claimed_boot, boot_id,"
        f" shim_pid, shim_start, started_at, pid)"
        f" VALUES (?, ?, ?, '{AttemptState.RUNNING}', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            one.attempt_id,
            job_id,
            one.number,
            msgspec.json.encode(gpus).decode(),
            len(gpus),
            one.claim.get("claimed_at") or now,
            one.claim.get("claimed_boot") or boot,
            one.boot_id,
            one.pid or None,
            one.start_ticks or None,
            started_at,
            command_pid(one.pid) if one.alive else None,
        ),
    )
    if one.exit is None:
        for gpu in gpus:
            _lease(db, gpu, one.attempt_id, now)
    spent = {key: value for key, value in (one.claim.get("job") or {}).items() if key.startswith("spent_")}
    for before, after in ((State.PENDING, State.STARTING), (State.STARTING, State.RUNNING)):
        more = {"attempt": one.number, **spent} if after is State.STARTING else {"started_at": started_at}
        jobs.touch(db, job_id, {"state": after, "backoff_at": None, "backoff_boot": None, **more})
        data = {"from": before, "to": after, "orphan": True}
        events.append(db, now, "job.state", job=job_id, attempt=one.number, data=data)


def _lease(db: sqlite3.Connection, gpu: dict[str, Any], attempt_id: str, now: float) -> None:
    """Give a GPU, or a part of its memory, to an attempt that has it in fact. Whoever has it in the books
    only is over: the GPU had been given on. Where two are alive, the books stay as they are."""
    memory = gpu.get("memory_bytes")
    db.execute(
        "INSERT OR IGNORE INTO gpus (uuid, idx, name, memory_bytes, simulated, present)"
        " VALUES (?, ?, 'unknown', ?, 0, 0)",
        (gpu["uuid"], gpu["index"], UNKNOWN_BYTES),
    )
    for row in db.execute(
        "SELECT leases.attempt_id, leases.memory_bytes, attempts.boot_id, attempts.shim_pid,"
        " attempts.shim_start FROM leases JOIN attempts ON attempts.id = leases.attempt_id"
        " WHERE leases.gpu_uuid = ?",
        (gpu["uuid"],),
    ).fetchall():
        if not is_alive(row["boot_id"], row["shim_pid"], row["shim_start"]):
            end_unseen(db, row["attempt_id"], now=now)
    with contextlib.suppress(sqlite3.IntegrityError):
        db.execute(
            "INSERT INTO leases (gpu_uuid, attempt_id, since, memory_bytes) VALUES (?, ?, ?, ?)",
            (gpu["uuid"], attempt_id, now, memory),
        )


def jump(db: sqlite3.Connection, at_least: int) -> None:
    """Move the numbers of jobs and events on, past `at_least` and all that may have been given out."""
    for table, spare, floor in (("jobs", SPARE_IDS, at_least), ("events", SPARE_EVENTS, 0)):
        db.execute(
            "INSERT INTO sqlite_sequence (name, seq) SELECT ?, 0 WHERE NOT EXISTS"
            " (SELECT 1 FROM sqlite_sequence WHERE name = ?)",
            (table, table),
        )
        db.execute("UPDATE sqlite_sequence SET seq = max(seq, ?) + ? WHERE name = ?", (floor, spare, table))


def starts(db: sqlite3.Connection) -> int:
    """Count the daemons that have begun to work with this database."""
    row = db.execute("SELECT value FROM meta WHERE key = 'starts'").fetchone()
    return int(row["value"]) if row is not None else 0


def count_start(db: sqlite3.Connection, number: int) -> None:
    """Note start `number`; from here on the database is no copy any more."""
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('starts', ?)", (str(number),))
    db.execute("DELETE FROM meta WHERE key = 'snapshot_at'")


def is_copy(db: sqlite3.Connection) -> bool:
    """Return True if this is a backup that was put back, and no daemon has worked with it since."""
    return db.execute("SELECT 1 FROM meta WHERE key = 'snapshot_at'").fetchone() is not None


def terminal(db: sqlite3.Connection, job_id: int) -> bool:
    """Return True if a job has ended."""
    row = db.execute("SELECT state FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return row is not None and State(row["state"]) in TERMINAL
