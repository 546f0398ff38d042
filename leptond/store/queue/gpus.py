"""Devices as the queue knows them: what is there, what is drained, what is leased."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from leptond.base.errors import NotFound
from leptond.store.accounting import ledger
from leptond.store.database import events
from leptond.store.database.rows import ref_of, text_or

_links = msgspec.json.Decoder(dict[str, str])


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Which attempt has a GPU: all of it, or `memory_bytes`. `ref`: what people call its job."""

    job_id: int
    ref: str
    attempt: int
    attempt_id: str
    memory_bytes: int | None = None
    exclusive: bool = False


class KnownGpu(msgspec.Struct, frozen=True, kw_only=True):
    """A row of ``gpus`` with the attempts that hold it, and the queue that owns it, if any."""

    uuid: str
    index: int
    name: str
    memory_bytes: int
    simulated: bool
    present: bool
    drained: bool
    drain_reason: str | None
    numa_node: int | None = None
    cpus: str | None = None
    links: dict[str, str] = {}
    mig: bool = False
    board: str | None = None
    owner: str | None = None
    lend: str = "all"
    leases: list[Lease] = []

    @property
    def job_id(self) -> int | None:
        """The job that holds it; of several that share it, the one that has the lowest number."""
        return self.leases[0].job_id if self.leases else None

    @property
    def attempt(self) -> int | None:
        """The attempt of that job."""
        return self.leases[0].attempt if self.leases else None

    @property
    def attempt_id(self) -> str | None:
        """The id of that attempt."""
        return self.leases[0].attempt_id if self.leases else None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A device that the backend reports. `board`: the GPU that a slice (`mig`) is a part of."""

    uuid: str
    index: int
    name: str
    memory_bytes: int
    simulated: bool
    numa_node: int | None = None
    cpus: str | None = None
    links: dict[str, str] = {}
    mig: bool = False
    board: str | None = None


def sync(db: sqlite3.Connection, found: Sequence[Found], now: float) -> None:
    """Take in what the backend sees now. Devices that are gone stay, as not present: leases and drains
    hang on their UUIDs, and the order of indices may change over a reboot."""
    before = {gpu.uuid: gpu for gpu in known(db)}
    db.execute("UPDATE gpus SET present = 0")
    for gpu in found:
        db.execute(
            "INSERT INTO gpus (uuid, idx, name, memory_bytes, simulated, numa_node, cpus, links, mig, board,"
            " present) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"
            " ON CONFLICT (uuid) DO UPDATE SET idx = excluded.idx, name = excluded.name,"
            " memory_bytes = excluded.memory_bytes, simulated = excluded.simulated,"
            " numa_node = excluded.numa_node, cpus = excluded.cpus, links = excluded.links,"
            " mig = excluded.mig, board = excluded.board, present = 1",
            (
                gpu.uuid,
                gpu.index,
                gpu.name,
                gpu.memory_bytes,
                int(gpu.simulated),
                gpu.numa_node,
                gpu.cpus,
                msgspec.json.encode(gpu.links).decode(),
                int(gpu.mig),
                gpu.board,
            ),
        )
        if gpu.uuid not in before or not before[gpu.uuid].present:
            events.append(db, now, "gpu.state", data={"uuid": gpu.uuid, "index": gpu.index, "present": True})
    present = {gpu.uuid for gpu in found}
    for gone in before.values():
        if gone.present and gone.uuid not in present:
            data = {"uuid": gone.uuid, "index": gone.index, "present": False}
            events.append(db, now, "gpu.state", data=data)
    ledger.note_service(db, now)


def known(db: sqlite3.Connection, *, present_only: bool = False) -> list[KnownGpu]:
    """All devices by index, with who holds them."""
    leases: dict[str, list[Lease]] = {}
    for row in db.execute(
        # CROSS: from the few leases to their attempts; for the order SQLite would go through all attempts
        "SELECT leases.gpu_uuid, leases.memory_bytes, attempts.job_id, attempts.number, attempts.id,"
        " jobs.exclusive, jobs.array_id, jobs.array_index FROM leases"
        " CROSS JOIN attempts ON attempts.id = leases.attempt_id"
        " CROSS JOIN jobs ON jobs.id = attempts.job_id ORDER BY attempts.job_id"
    ):
        one = Lease(
            job_id=row["job_id"],
            ref=ref_of(row["job_id"], row["array_id"], row["array_index"]),
            attempt=row["number"],
            attempt_id=row["id"],
            memory_bytes=row["memory_bytes"],
            exclusive=bool(row["exclusive"]),
        )
        leases.setdefault(row["gpu_uuid"], []).append(one)
    rows = db.execute(
        "SELECT gpus.*, queues.name AS owner, coalesce(queues.lend, 'all') AS lend FROM gpus"
        " LEFT JOIN queue_gpus ON queue_gpus.gpu_uuid = gpus.uuid"
        " LEFT JOIN queues ON queues.name = queue_gpus.queue"
        + (" WHERE gpus.present = 1" if present_only else "")
        + " ORDER BY gpus.present DESC, gpus.idx, gpus.uuid"
    )
    return [
        # checked: the UUID is a label of metrics
        msgspec.convert(
            {
                "uuid": row["uuid"],
                "index": row["idx"],
                "name": row["name"],
                "memory_bytes": row["memory_bytes"] or 0,
                "simulated": bool(row["simulated"]),
                "present": bool(row["present"]),
                "drained": bool(row["drained"]),
                "drain_reason": row["drain_reason"],
                "numa_node": row["numa_node"],
                "cpus": row["cpus"],
                "links": text_or(_links.decode, row["links"], {}),
                "mig": bool(row["mig"]),
                "board": row["board"],
                "owner": row["owner"],
                "lend": row["lend"] if isinstance(row["lend"], str) else "none",
                "leases": leases.get(row["uuid"], []),
            },
            KnownGpu,
        )
        for row in rows
    ]


def set_drained(db: sqlite3.Connection, index: int, reason: str | None, by: str, now: float) -> KnownGpu:
    """Take the device at `index` out of service (`reason`) or back into it (None). What runs on it goes
    on. Raises NotFound."""
    gpu = next((gpu for gpu in known(db, present_only=True) if gpu.index == index), None)
    if gpu is None:
        raise NotFound(f"there is no GPU {index}", hint="`leptonctl gpus` lists the devices")
    drain(db, gpu.uuid, reason, by, now)
    return next(gpu for gpu in known(db) if gpu.index == index and gpu.present)


def drain(db: sqlite3.Connection, uuid: str, reason: str | None, by: str, now: float) -> None:
    """As :func:`set_drained`, by UUID; unknown devices are left alone."""
    db.execute(
        "UPDATE gpus SET drained = ?, drain_reason = ? WHERE uuid = ?",
        (int(reason is not None), reason, uuid),
    )
    data = {"uuid": uuid, "drained": reason is not None, "reason": reason, "by": by}
    events.append(db, now, "gpu.state", data=data)
    ledger.note_service(db, now)
