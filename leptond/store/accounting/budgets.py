"""Budgets as they are stored, and what counts against them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from leptond.base.errors import NotFound, OverBudget
from leptond.core.accounting.budgets import (
    Budget,
    BudgetRequest,
    BudgetUsage,
    Overrun,
    check_budget,
    period_start,
)
from leptond.core.admission.admission import Admitted
from leptond.store.database import events
from leptond.store.database.conditions import IS_PENDING


def every(db: sqlite3.Connection) -> list[Budget]:
    """All budgets by scope and name."""
    return [_budget(row) for row in db.execute("SELECT * FROM budgets ORDER BY scope, name")]


def exist(db: sqlite3.Connection) -> bool:
    """Return True if any budget is set."""
    return db.execute("SELECT 1 FROM budgets LIMIT 1").fetchone() is not None


def put(db: sqlite3.Connection, budget: Budget, *, by: str, now: float) -> None:
    """Set a budget; it counts from the next submit on."""
    amount = round(budget.amount * 1e6) if budget.amount is not None else None
    db.execute(
        "INSERT OR REPLACE INTO budgets (scope, name, period, amount_micros, gpu_hours, action, set_by,"
        " set_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (budget.scope, budget.name, budget.period, amount, budget.gpu_hours, budget.action, by, now),
    )
    data = {"scope": budget.scope, "name": budget.name, "by": by, "removed": False}
    events.append(db, now, "budget.changed", data=data)


def remove(db: sqlite3.Connection, scope: str, name: str, *, by: str, now: float) -> None:
    """Take a budget away. Raises NotFound."""
    if not db.execute("DELETE FROM budgets WHERE scope = ? AND name = ?", (scope, name)).rowcount:
        raise NotFound(f"{scope} {name} has no budget", hint="`leptonctl budget` lists them")
    data = {"scope": scope, "name": name, "by": by, "removed": True}
    events.append(db, now, "budget.changed", data=data)


def books(db: sqlite3.Connection, budget: Budget, now: float) -> BudgetUsage:
    """Return what counts against a budget now (primary key of spend; indexes jobs_open_user,
    jobs_open_project)."""
    column = "user" if budget.scope == "user" else "project"
    since = int(period_start(budget.period, now) // 86400)
    spent = db.execute(
        f"SELECT coalesce(sum(gpu_ms), 0), coalesce(sum(cost_micros), 0) FROM spend"
        f" WHERE day >= ? AND {column} = ?",
        (since, budget.name),
    ).fetchone()
    open_s = db.execute(
        f"SELECT coalesce(sum(gpus * coalesce(time_limit_s, 0)), 0) FROM jobs INDEXED BY jobs_open_{column}"
        f" WHERE ended_at IS NULL AND gpus > 0 AND {column} = ?",
        (budget.name,),
    ).fetchone()[0]
    open_s += db.execute(
        "SELECT coalesce(sum((last_id - id + 1) * gpus * coalesce(time_limit_s, 0)), 0) FROM folds"
        f" WHERE {IS_PENDING} AND {column} = ?",
        (budget.name,),
    ).fetchone()[0]
    return BudgetUsage(
        spent_gpu_hours=spent[0] / 3_600_000, spent=spent[1] / 1e6, open_gpu_hours=open_s / 3600
    )


def dearest(db: sqlite3.Connection) -> tuple[float | None, str]:
    """The price of the dearest GPU that is here and its currency; None when one has no price."""
    rows = db.execute(
        "SELECT micros, currency FROM gpus LEFT JOIN gpu_prices ON gpu_uuid = uuid AND at ="
        " (SELECT max(at) FROM gpu_prices AS newer WHERE newer.gpu_uuid = uuid) WHERE present = 1"
    ).fetchall()
    if not rows or any(row["micros"] is None for row in rows):
        return None, "money"
    return max(row["micros"] for row in rows) / 1e6, rows[0]["currency"]


def check(db: sqlite3.Connection, admitted: Sequence[Admitted], *, user: str, now: float) -> list[str]:
    """Judge jobs by the budgets that they fall under: warnings, as sentences. Raises OverBudget where a
    budget refuses."""
    found = []
    for budget, judgement in _judged(db, admitted, user, now):
        if budget.action == "refuse":
            raise OverBudget(judgement.over, hint=judgement.hint)
        found.append(f"{judgement.over}; {judgement.hint}")
    return found


def _judged(
    db: sqlite3.Connection, admitted: Sequence[Admitted], user: str, now: float
) -> list[tuple[Budget, Overrun]]:
    found: list[tuple[Budget, Overrun]] = []
    rows = every(db)
    if not rows:
        return found
    price, currency = dearest(db)
    for budget in rows:
        asks = [
            BudgetRequest(gpus=one.spec.gpus, limit_s=one.spec.time_limit_s, count=one.count)
            for one in admitted
            if budget.name == (user if budget.scope == "user" else one.spec.project)
        ]
        if asks:
            judgement = check_budget(budget, books(db, budget, now), asks, price=price, currency=currency)
            if judgement is not None:
                found.append((budget, judgement))
    return found


def _budget(row: sqlite3.Row) -> Budget:
    amount = row["amount_micros"]
    return Budget(
        scope=row["scope"],
        name=row["name"],
        period=row["period"],
        amount=amount / 1e6 if amount is not None else None,
        gpu_hours=row["gpu_hours"],
        action=row["action"],
    )
