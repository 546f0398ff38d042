"""The ledger by the day: days that are over are added up, and their details forgotten in time."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from leptond.core.accounting.ledger import Box, ledger_entries
from leptond.core.accounting.report_types import DailyTotal, LedgerHistory
from leptond.core.jobs.model import TERMINAL
from leptond.store.accounting import ledger

DAY_S = 86400
SETTLED_S = 60.0
"""Seconds after a moment during which its boxes still move a little: a hand-over begins before it is
noted."""


def first_day(db: sqlite3.Connection) -> int | None:
    """The first day that is not added up yet; None before there is anything."""
    row = db.execute("SELECT value FROM meta WHERE key = 'ledger_day'").fetchone()
    if row is not None:
        return int(row["value"])
    begun = db.execute("SELECT min(at) FROM gpu_service").fetchone()[0]
    return int(begun // DAY_S) if begun is not None else None


def next_day(db: sqlite3.Connection, now: float) -> tuple[int, list[DailyTotal]] | None:
    """The next day that can be added up, and its sums: it is over, and so are the jobs that had GPUs in it.
    Reads only."""
    day = first_day(db)
    if day is None or now < (day + 1) * DAY_S + SETTLED_S:
        return None
    begin, end = day * DAY_S, (day + 1) * DAY_S
    history = ledger.history(db, begin, end)
    if any(fact.span.job_state not in TERMINAL for fact in history.attempts):
        return None
    return day, _sums(db, history, begin * 1000, end * 1000)


def _sums(db: sqlite3.Connection, history: LedgerHistory, begin: int, end: int) -> list[DailyTotal]:
    entries = ledger_entries(
        begin, end, service=history.service, spans=history.spans, queue=history.queue, prices=history.prices
    )
    facts = {fact.span.id: fact for fact in history.attempts}
    sums: dict[tuple[str, str, str, str, Box, str, int | None], int] = {}
    for entry in entries:
        fact = facts.get(entry.attempt) if entry.attempt is not None else None
        whose = (fact.user, fact.project or "", fact.queue or "") if fact is not None else ("", "", "")
        key = (entry.gpu, *whose, entry.box, entry.cause, entry.price)
        sums[key] = sums.get(key, 0) + entry.ms
    return [
        DailyTotal(gpu=gpu, user=user, project=project, queue=queue, box=box, cause=cause, price=price, ms=ms)
        for (gpu, user, project, queue, box, cause, price), ms in sums.items()
    ]


def keep(db: sqlite3.Connection, day: int, sums: Sequence[DailyTotal]) -> None:
    """Store the sums of a day; doing it twice changes nothing."""
    db.execute("DELETE FROM ledger_days WHERE day = ?", (day,))
    db.executemany(
        "INSERT INTO ledger_days (day, gpu_uuid, user, project, queue, box, cause, price, ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                day,
                one.gpu,
                one.user,
                one.project,
                one.queue,
                one.box,
                one.cause,
                one.price if one.price is not None else -1,
                one.ms,
            )
            for one in sums
        ],
    )
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('ledger_day', ?)", (str(day + 1),))


def detail_day(db: sqlite3.Connection) -> int:
    """The first day whose details are kept."""
    row = db.execute("SELECT value FROM meta WHERE key = 'ledger_detail_day'").fetchone()
    return int(row["value"]) if row is not None else 0


def forget(db: sqlite3.Connection, before: int) -> bool:
    """Forget the details of days before `before` (days since the epoch) that are added up. Whether there
    were any. What held when the kept time began stays."""
    added_up = first_day(db)
    before = min(before, added_up if added_up is not None else 0)
    if before <= detail_day(db):
        return False
    at = before * DAY_S
    db.execute("DELETE FROM past_attempts WHERE ended_at < ?", (at,))
    db.execute("DELETE FROM demand WHERE at < coalesce((SELECT max(at) FROM demand WHERE at <= ?), 0)", (at,))
    db.execute(
        "DELETE FROM gpu_service WHERE at < (SELECT max(at) FROM gpu_service AS newer"
        " WHERE newer.gpu_uuid = gpu_service.gpu_uuid AND newer.at <= ?)",
        (at,),
    )
    db.execute("DELETE FROM idle_energy WHERE hour < ?", (at // 3600,))
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('ledger_detail_day', ?)", (str(before),))
    return True


def days(db: sqlite3.Connection, first: int, last: int) -> list[DailyTotal]:
    """The sums of the days from `first` to before `last`."""
    return [
        DailyTotal(
            gpu=row["gpu_uuid"],
            user=row["user"],
            project=row["project"],
            queue=row["queue"],
            box=Box(row["box"]),
            cause=row["cause"],
            price=row["price"] if row["price"] >= 0 else None,
            ms=row["ms"],
        )
        for row in db.execute(
            "SELECT gpu_uuid, user, project, queue, box, cause, price, sum(ms) AS ms FROM ledger_days"
            " WHERE day >= ? AND day < ? GROUP BY 1, 2, 3, 4, 5, 6, 7",
            (first, last),
        )
    ]


def history(db: sqlite3.Connection, begin: float, end: float) -> LedgerHistory:
    """As :func:`leptond.store.accounting.ledger.history`; where the details are forgotten, the sums of the
    whole days that lie in the window."""
    kept = detail_day(db)
    if begin >= kept * DAY_S:
        return ledger.history(db, begin, end)
    since = float(kept * DAY_S)
    found = ledger.history(db, min(since, end), end)
    first, last = int(-(-begin // DAY_S)), min(kept, int(end // DAY_S))
    return msgspec.structs.replace(found, daily_totals=days(db, first, last), detail_since=ledger.ms(since))


Totals = dict[Box, int]
"""Milliseconds by box."""


def settled(db: sqlite3.Connection, now: float) -> tuple[Totals, LedgerHistory | None, float]:
    """Return the counters: the sums of all days that are added up, and the history since, with its
    beginning. Live jobs' time is not settled: it may still move from box to box."""
    totals: Totals = dict.fromkeys(Box, 0)
    for row in db.execute("SELECT box, sum(ms) AS ms FROM ledger_days GROUP BY box"):
        totals[Box(row["box"])] = row["ms"]
    day = first_day(db)
    if day is None:
        return totals, None, now
    begin = float(day * DAY_S)
    return totals, ledger.history(db, begin, max(begin, now - SETTLED_S)), begin


def add_settled(totals: Totals, history: LedgerHistory, begin: float, end: float) -> Totals:
    """`totals` with the settled part of a history: free GPUs, and jobs that have ended."""
    states = {fact.span.id: fact.span.job_state for fact in history.attempts}
    entries = ledger_entries(
        ledger.ms(begin),
        ledger.ms(end),
        service=history.service,
        spans=history.spans,
        queue=history.queue,
        prices=history.prices,
    )
    for entry in entries:
        if entry.attempt is None or states[entry.attempt] in TERMINAL:
            totals[entry.box] += entry.ms
    return totals


def counters(db: sqlite3.Connection) -> tuple[int, int]:
    """(idle milliseconds, cost in millionths) of all attempts that have ended."""
    row = db.execute(
        "SELECT coalesce(sum(idle_ms), 0) AS idle, coalesce(sum(cost_micros), 0) AS cost FROM spend"
    ).fetchone()
    return row["idle"], row["cost"]
