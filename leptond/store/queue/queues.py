"""Queues: made, changed and removed while everything runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from leptond.base.errors import Conflict, Invalid, NotFound, WrongState
from leptond.core.admission.queues import Queue
from leptond.core.jobs.model import DEFAULT_QUEUE
from leptond.store.database import events, rows
from leptond.store.database.conditions import IS_LIVE

msgspec.json.Decoder(Queue)  # found out about before there are threads (see rows.py)

UNREADABLE_USERS = ["(unreadable)"]
"""The users of a queue whose list cannot be read: nobody gets in by a fault."""

_HINT = "`leptonctl queues` lists the queues"


def every(db: sqlite3.Connection) -> list[Queue]:
    """All queues by name."""
    gpus: dict[str, list[str]] = {}
    for row in db.execute(
        "SELECT queue, gpu_uuid FROM queue_gpus JOIN gpus ON gpus.uuid = gpu_uuid ORDER BY gpus.idx, gpu_uuid"
    ):
        gpus.setdefault(row["queue"], []).append(row["gpu_uuid"])
    return [
        _queue(row, gpus.get(row["name"], [])) for row in db.execute("SELECT * FROM queues ORDER BY name")
    ]


def find(db: sqlite3.Connection, name: str) -> Queue:
    """The queue of that name. Raises NotFound."""
    row = db.execute("SELECT * FROM queues WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise NotFound(f"there is no queue {name}", hint=_HINT)
    owned = db.execute(
        "SELECT gpu_uuid FROM queue_gpus JOIN gpus ON gpus.uuid = gpu_uuid WHERE queue = ?"
        " ORDER BY gpus.idx, gpu_uuid",
        (name,),
    )
    return _queue(row, [each["gpu_uuid"] for each in owned])


def create(db: sqlite3.Connection, queue: Queue, gpus: Sequence[str] | None, *, by: str, now: float) -> Queue:
    """Make a queue that owns `gpus` (indices or UUIDs). Raises Conflict, Invalid."""
    if db.execute("SELECT 1 FROM queues WHERE name = ?", (queue.name,)).fetchone() is not None:
        raise Conflict(
            f"there is a queue {queue.name} already", hint=f"leptonctl queues set {queue.name} changes it"
        )
    uuids = _free_to_own(db, queue.name, gpus or ())
    values = {name: value for name, value in _columns(queue).items() if name != "version"}
    db.execute(
        f"INSERT INTO queues ({', '.join(values)}) VALUES ({', '.join(f':{name}' for name in values)})",
        values,
    )
    _own(db, queue.name, uuids)
    made = find(db, queue.name)
    events.append(db, now, "queue.changed", data={"queue": made.name, "change": "made", "by": by})
    return made


def change(
    db: sqlite3.Connection,
    name: str,
    changes: dict[str, Any],
    gpus: Sequence[str] | None,
    *,
    by: str,
    now: float,
) -> Queue:
    """Set fields of a queue and, unless None, the GPUs that it owns (indices or UUIDs). Jobs that wait in
    it are planned by its new fields; their own limits stay. Raises NotFound, Invalid."""
    queue = msgspec.structs.replace(find(db, name), **changes)
    uuids = _free_to_own(db, name, gpus) if gpus is not None else None
    values = _columns(queue)
    db.execute(
        f"UPDATE queues SET {', '.join(f'{column} = :{column}' for column in values if column != 'version')},"
        " version = version + 1 WHERE name = :name",
        values,
    )
    if uuids is not None:
        _own(db, name, uuids)
    data = {"queue": name, "change": {**changes, **({"gpus": list(gpus)} if gpus is not None else {})}}
    events.append(db, now, "queue.changed", data={**data, "by": by})
    return find(db, name)


def remove(db: sqlite3.Connection, name: str, *, by: str, now: float) -> None:
    """Remove a queue in which no job waits or runs; its GPUs are everybody's then. Raises NotFound,
    WrongState."""
    find(db, name)
    if name == DEFAULT_QUEUE:
        raise WrongState("the queue default stays: it is that of jobs that name none")
    waiting = pending(db, "queue", name)
    live = db.execute(
        f"SELECT count(*) FROM jobs INDEXED BY jobs_live WHERE {IS_LIVE} AND queue = ?",
        (name,),
    ).fetchone()[0]
    if waiting or live:
        raise WrongState(
            f"the queue {name} has {waiting} jobs that wait and {live} that run",
            hint=f"close it (leptonctl queues set {name} --state closed) and remove it when they have ended",
        )
    db.execute("DELETE FROM queues WHERE name = ?", (name,))
    db.execute("DELETE FROM pending_counts WHERE kind = 'queue' AND name = ?", (name,))
    events.append(db, now, "queue.changed", data={"queue": name, "change": "removed", "by": by})


def pending(db: sqlite3.Connection, kind: str, name: str) -> int:
    """Count the waiting jobs of a user, project or queue."""
    row = db.execute("SELECT n FROM pending_counts WHERE kind = ? AND name = ?", (kind, name)).fetchone()
    return row["n"] if row is not None else 0


def named(known: Mapping[str, Queue], name: str | None) -> Queue:
    """The queue that a job names, or the default one. Raises Invalid."""
    queue = known.get(name or DEFAULT_QUEUE)
    if queue is None:
        raise Invalid(f"there is no queue {name}; there are {', '.join(known)}", pointer="/queue", hint=_HINT)
    return queue


def _free_to_own(db: sqlite3.Connection, name: str, gpus: Sequence[str]) -> list[str]:
    """The UUIDs of GPUs named by index or UUID. Raises Invalid for one that another queue owns."""
    uuids = list(dict.fromkeys(_uuid(db, gpu) for gpu in gpus))
    for uuid in uuids:
        row = db.execute("SELECT queue FROM queue_gpus WHERE gpu_uuid = ?", (uuid,)).fetchone()
        if row is not None and row["queue"] != name:
            raise Invalid(
                f"GPU {uuid} belongs to the queue {row['queue']}",
                pointer="/gpus",
                hint="take it from there first",
            )
    return uuids


def _own(db: sqlite3.Connection, name: str, uuids: Sequence[str]) -> None:
    db.execute("DELETE FROM queue_gpus WHERE queue = ?", (name,))
    db.executemany("INSERT INTO queue_gpus (gpu_uuid, queue) VALUES (?, ?)", [(uuid, name) for uuid in uuids])


def _uuid(db: sqlite3.Connection, gpu: str) -> str:
    column = "idx" if gpu.isdecimal() else "uuid"
    row = db.execute(
        f"SELECT uuid FROM gpus WHERE {column} = ? ORDER BY present DESC LIMIT 1",
        (int(gpu) if gpu.isdecimal() else gpu,),
    ).fetchone()
    if row is None:
        raise Invalid(
            f"there is no GPU {gpu}", pointer="/gpus", hint="name GPUs by index or UUID; see `leptonctl gpus`"
        )
    uuid: str = row["uuid"]
    return uuid


def _columns(queue: Queue) -> dict[str, Any]:
    values = {name: getattr(queue, name) for name in queue.__struct_fields__ if name != "gpus"}
    return values | {
        "users": msgspec.json.encode(list(queue.users)).decode(),
        "borrow": int(queue.borrow),
    }


def _queue(row: sqlite3.Row, gpus: list[str]) -> Queue:
    values = {**dict(row), "borrow": bool(row["borrow"]), "gpus": gpus}
    return rows.shown(
        values, Queue, {"users": msgspec.json.decode}, {"users": UNREADABLE_USERS, "weight": 1.0}
    )
