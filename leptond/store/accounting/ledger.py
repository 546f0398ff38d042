"""The records that the ledger is made from: noted as transitions while they happen, and read back as the
values of :mod:`leptond.core.accounting.ledger`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import msgspec

from leptond.core.accounting.ledger import (
    AttemptSpan,
    IdleCause,
    IdleCauseChange,
    PriceChange,
    ServiceChange,
    capacity_ms,
    ledger_entries,
)
from leptond.core.accounting.prices import Listed
from leptond.core.accounting.report_types import AttemptRecord, Device, IdleEnergy, LedgerHistory, SampledUse
from leptond.core.jobs.model import State
from leptond.store.database.conditions import ATTEMPT_LIVES
from leptond.store.database.rows import enum_or, shown_gpus

ABSENT_S = 7 * 86400.0
"""Seconds for which a device that is gone still counts as part of the machine: it is paid for while it is
being mended."""


def ms(seconds: float) -> int:
    """The ledger's unit of time.

    >>> ms(1.0004)
    1000
    """
    return round(seconds * 1000)


# -- noted while it happens --------------------------------------------------------------------------------


def note_service(db: sqlite3.Connection, now: float, sick: Mapping[str, str] | None = None) -> None:
    """Note the devices whose state has changed since the last note. `sick` None: as it was."""
    for gpu in db.execute("SELECT uuid, present, drained, drain_reason FROM gpus").fetchall():
        last = db.execute(
            "SELECT at, present, drained, sick FROM gpu_service WHERE gpu_uuid = ? ORDER BY at DESC LIMIT 1",
            (gpu["uuid"],),
        ).fetchone()
        ill = (last["sick"] if last is not None else None) if sick is None else sick.get(gpu["uuid"])
        drained = (gpu["drain_reason"] or "drained") if gpu["drained"] else None
        state = (gpu["present"], drained, ill)
        if last is None or tuple(last)[1:] != state:
            at = max(now, last["at"]) if last is not None else now
            db.execute("INSERT OR REPLACE INTO gpu_service VALUES (?, ?, ?, ?, ?)", (gpu["uuid"], at, *state))


def note_prices(db: sqlite3.Connection, now: float, priced: Mapping[str, tuple[str, Listed | None]]) -> None:
    """Note what the devices cost from now on, where that has changed. `priced`: by UUID, the device's
    name and its price."""
    for uuid, (name, listed) in priced.items():
        last = db.execute(
            "SELECT at, micros, currency, model, source, as_of FROM gpu_prices WHERE gpu_uuid = ?"
            " ORDER BY at DESC LIMIT 1",
            (uuid,),
        ).fetchone()
        state: tuple[Any, ...] = (None, None, name, None, None)
        if listed is not None:
            state = (listed.micros, listed.currency, listed.model, listed.source, listed.as_of)
        if last is None or tuple(last)[1:] != state:
            # the first price that is known holds for the device's past as well
            first = db.execute("SELECT min(at) FROM gpu_service WHERE gpu_uuid = ?", (uuid,)).fetchone()[0]
            at = max(now, last["at"]) if last is not None else min(now, first or now)
            db.execute("INSERT OR REPLACE INTO gpu_prices VALUES (?, ?, ?, ?, ?, ?, ?)", (uuid, at, *state))


def price_micros(db: sqlite3.Connection, gpus: Iterable[str]) -> int | None:
    """Return the price of an hour of all these GPUs now; None when one of them has no price."""
    total = 0
    for uuid in gpus:
        row = db.execute(
            "SELECT micros FROM gpu_prices WHERE gpu_uuid = ? ORDER BY at DESC LIMIT 1", (uuid,)
        ).fetchone()
        if row is None or row["micros"] is None:
            return None
        total += row["micros"]
    return total


def note_idle_causes(db: sqlite3.Connection, changes: Sequence[tuple[float, IdleCause, str]]) -> None:
    """Note what the queue was like for free GPUs, from each moment on."""
    db.executemany("INSERT OR REPLACE INTO demand (at, kind, cause) VALUES (?, ?, ?)", changes)


def newest_idle_cause(db: sqlite3.Connection) -> tuple[IdleCause, str]:
    """Return the last note."""
    row = db.execute("SELECT kind, cause FROM demand ORDER BY at DESC LIMIT 1").fetchone()
    return (IdleCause(row["kind"]), row["cause"]) if row is not None else (IdleCause.NO_DEMAND, "")


def newest_release(db: sqlite3.Connection) -> float | None:
    """When the last process of the newest attempt to end was gone."""
    at: float | None = db.execute("SELECT max(released_at) FROM gpus").fetchone()[0]
    return at


def add_use(db: sqlite3.Connection, uses: Sequence[SampledUse], idle: Sequence[IdleEnergy] = ()) -> None:
    """Add what was sampled since the last time. An attempt that is not known here is passed over."""
    for use in uses:
        db.execute(
            "INSERT INTO attempt_use (attempt_id, gpu_uuid, sampled_ms, idle_ms, energy_mj, energy_source,"
            " first_use_at, max_utilization, max_memory_bytes)"
            " SELECT ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE EXISTS (SELECT 1 FROM attempts WHERE id = ?)"
            " ON CONFLICT (attempt_id, gpu_uuid) DO UPDATE SET sampled_ms = sampled_ms + excluded.sampled_ms,"
            " idle_ms = idle_ms + excluded.idle_ms,"
            " energy_mj = coalesce(energy_mj + excluded.energy_mj, energy_mj, excluded.energy_mj),"
            " energy_source = coalesce(excluded.energy_source, energy_source),"
            " first_use_at = coalesce(first_use_at, excluded.first_use_at),"
            " max_utilization = coalesce(max(max_utilization, excluded.max_utilization), max_utilization,"
            " excluded.max_utilization),"
            " max_memory_bytes = coalesce(max(max_memory_bytes, excluded.max_memory_bytes),"
            " max_memory_bytes, excluded.max_memory_bytes)",
            (*msgspec.structs.astuple(use), use.attempt_id),
        )
    for one in idle:
        db.execute(
            "INSERT INTO idle_energy (hour, gpu_uuid, energy_mj, energy_source) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (hour, gpu_uuid) DO UPDATE SET energy_mj = energy_mj + excluded.energy_mj",
            msgspec.structs.astuple(one),
        )


def book(
    db: sqlite3.Connection,
    *,
    user: str,
    project: str | None,
    gpu_ms: int,
    price: float | None,
    at: float,
    idle_ms: int = 0,
) -> None:
    """Add an ended attempt of `gpu_ms` GPU-milliseconds to what its owner has spent. `price`: of one
    GPU-hour, in millionths."""
    if gpu_ms <= 0:
        return
    cost = round(gpu_ms * price / 3_600_000) if price is not None else 0
    db.execute(
        "INSERT INTO spend (day, user, project, gpu_ms, cost_micros, unpriced_ms, idle_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (day, user, project) DO UPDATE SET gpu_ms = gpu_ms + excluded.gpu_ms,"
        " cost_micros = cost_micros + excluded.cost_micros, unpriced_ms = unpriced_ms + excluded.unpriced_ms,"
        " idle_ms = idle_ms + excluded.idle_ms",
        (int(at // 86400), user, project or "", gpu_ms, cost, gpu_ms if price is None else 0, idle_ms),
    )


# -- read back ---------------------------------------------------------------------------------------------


def history(db: sqlite3.Connection, begin: float, end: float) -> LedgerHistory:
    """Return the records between two moments (UTC seconds), with what held at the first."""
    return LedgerHistory(
        service=_service(db, end),
        queue=_queue(db, begin, end),
        prices=[
            PriceChange(gpu=row["gpu_uuid"], at=ms(row["at"]), micros=row["micros"])
            for row in db.execute("SELECT gpu_uuid, at, micros FROM gpu_prices WHERE at < ?", (end,))
        ],
        attempts=_facts(db, begin, end),
        idle_energy=[
            IdleEnergy(
                hour=row["hour"],
                gpu=row["gpu_uuid"],
                energy_mj=row["energy_mj"],
                energy_source=row["energy_source"],
            )
            for row in db.execute(
                "SELECT * FROM idle_energy WHERE hour >= ? AND hour <= ?", (begin // 3600, end // 3600)
            )
        ],
        devices=_devices(db),
    )


def _devices(db: sqlite3.Connection) -> list[Device]:
    """The devices that are present, with what they cost now."""
    return [
        Device(
            gpu=row["uuid"],
            index=row["idx"],
            name=row["name"],
            memory_bytes=row["memory_bytes"],
            simulated=bool(row["simulated"]),
            price=row["micros"],
            currency=row["currency"],
            source=row["source"],
            as_of=row["as_of"],
        )
        for row in db.execute(
            "SELECT gpus.*, micros, currency, source, as_of FROM gpus LEFT JOIN gpu_prices"
            " ON gpu_prices.gpu_uuid = uuid AND gpu_prices.at ="
            " (SELECT max(at) FROM gpu_prices AS newer WHERE newer.gpu_uuid = uuid)"
            " WHERE present = 1 ORDER BY idx"
        )
    ]


def _service(db: sqlite3.Connection, end: float) -> list[ServiceChange]:
    found: list[ServiceChange] = []
    rows = db.execute("SELECT * FROM gpu_service WHERE at < ? ORDER BY gpu_uuid, at", (end,)).fetchall()
    for row, following in zip_longest(rows, rows[1:]):
        out = "" if row["present"] else "not present"
        if row["present"] and row["drained"] is not None:
            out = f"drained: {row['drained']}"
        elif row["present"] and row["sick"] is not None:
            out = row["sick"]
        found.append(ServiceChange(gpu=row["gpu_uuid"], at=ms(row["at"]), out=out))
        gone = row["at"] + ABSENT_S
        back = following["at"] if following is not None and following["gpu_uuid"] == row["gpu_uuid"] else end
        if not row["present"] and gone < back:
            found.append(ServiceChange(gpu=row["gpu_uuid"], at=ms(gone), managed=False))
    return found


def _queue(db: sqlite3.Connection, begin: float, end: float) -> list[IdleCauseChange]:
    rows = db.execute(
        "SELECT * FROM demand WHERE at < ? AND at >= coalesce((SELECT max(at) FROM demand WHERE at <= ?), 0)",
        (end, begin),
    )
    return [
        IdleCauseChange(
            at=ms(row["at"]),
            idle_cause=enum_or(IdleCause, row["kind"], IdleCause.NO_DEMAND),
            cause=row["cause"],
        )
        for row in rows
    ]


_OF_JOBS = (
    "SELECT attempts.*, jobs.name, jobs.user, jobs.project, jobs.state AS job_state,"
    " jobs.class AS job_class, jobs.queue,"
    " jobs.submitted_at, jobs.time_limit_s, jobs.priority FROM attempts INDEXED BY {index}"
    " JOIN jobs ON jobs.id = attempts.job_id WHERE n_gpus > 0 AND {when}"
)


def _facts(db: sqlite3.Connection, begin: float, end: float) -> list[AttemptRecord]:
    """Attempts that held GPUs in the window, or waited for their hand-over in it (indexes attempts_gpu_end
    and attempts_gpu_live, migration of the ledger)."""
    ended = _OF_JOBS.format(index="attempts_gpu_end", when="attempts.ended_at > ?")
    live = _OF_JOBS.format(index="attempts_gpu_live", when=f"attempts.{ATTEMPT_LIVES}")
    rows = [
        *db.execute(f"{ended} AND coalesce(startable_at, claimed_at) < ?", (begin, end)),
        *db.execute(f"{live} AND coalesce(startable_at, claimed_at) < ?", (end,)),
        *db.execute(
            "SELECT * FROM past_attempts WHERE ended_at > ? AND coalesce(startable_at, claimed_at) < ?",
            (begin, end),
        ),
    ]
    return [_fact(dict(row), uses(db, row["id"])) for row in rows]


def uses(db: sqlite3.Connection, attempt_id: str) -> list[SampledUse]:
    """Return the samples of one attempt, a value for each of its GPUs (primary keys)."""
    return [
        SampledUse(attempt_id=attempt_id, gpu=row["gpu_uuid"], **{name: row[name] for name in _SAMPLED})
        for table in ("attempt_use", "past_use")
        for row in db.execute(f"SELECT * FROM {table} WHERE attempt_id = ?", (attempt_id,))
    ]


def idle_ms(db: sqlite3.Connection, attempt_id: str) -> int:
    """Return for how long the GPUs of an attempt have been idle so far, all together (primary key)."""
    row = db.execute("SELECT coalesce(sum(idle_ms), 0) FROM attempt_use WHERE attempt_id = ?", (attempt_id,))
    found: int = row.fetchone()[0]
    return found


_SAMPLED = SampledUse.__struct_fields__[2:]


def _fact(row: Mapping[str, Any], sampled: Sequence[SampledUse]) -> AttemptRecord:
    """A row of ``attempts`` or ``past_attempts`` with its job's columns. Where the job does not report its
    progress, the first sample that saw its GPUs in use stands for it."""
    reported = row.get("first_progress_at")
    seen = [use.first_use_at for use in sampled if use.first_use_at is not None]
    progress = reported if reported is not None else min(seen, default=None)
    span = AttemptSpan(
        id=row["id"],
        job=row["job_id"],
        gpus=[gpu.uuid for gpu in shown_gpus(row["gpus"])],
        claimed=ms(row["claimed_at"]),
        startable=_ms(row["startable_at"]),
        start=_ms(row["started_at"]),
        progress=_ms(progress),
        checkpoint=_ms(row.get("checkpoint_at")),
        stop=_ms(row["stop_at"]),
        end=_ms(row["ended_at"]),
        cause=row["class"] or "",
        stop_reason=row["stop_reason"] or "",
        gap_cause=row["gap_cause"] or "",
        job_state=enum_or(State, row["job_state"], State.LOST),
        job_cause=row["job_class"] or "",
    )
    return AttemptRecord(
        span=span,
        number=row["number"],
        name=row["name"],
        user=row["user"],
        project=row["project"],
        queue=row.get("queue"),
        run_s=row["run_s"] or 0.0,
        retries_saved=row["retries_saved"],
        uses=sampled,
        progress_known=progress is not None,
        submitted=_ms(row.get("submitted_at")),
        limit_s=row.get("time_limit_s"),
        priority=row.get("priority") or 0,
        spared_ms=row["spared_ms"],
    )


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else ms(seconds)


def imbalance_ms(db: sqlite3.Connection, begin: float, end: float) -> int:
    """Capacity minus the sum of the boxes of a window; anything but 0 is a fault of the ledger."""
    seen = history(db, begin, end)
    entries = ledger_entries(
        ms(begin), ms(end), service=seen.service, spans=seen.spans, queue=seen.queue, prices=seen.prices
    )
    return capacity_ms(ms(begin), ms(end), seen.service) - sum(entry.ms for entry in entries)
