"""Budgets: what a user or a project may spend in a day, a week or a month. Checked at admission against the
worst case, which is known for jobs with time limits."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

Period = Literal["day", "week", "month"]
Scope = Literal["user", "project"]
Action = Literal["warn", "refuse"]


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """At most `amount` (of the currency) or `gpu_hours` in each `period`; `action`: what happens to jobs
    beyond it."""

    scope: Scope
    name: str
    period: Period
    amount: float | None
    gpu_hours: float | None
    action: Action


class BudgetUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Use that counts against a budget: GPU-hours and cost of attempts that ended in the period, and the
    worst case in GPU-hours of jobs that are queued or running."""

    spent_gpu_hours: float = 0.0
    spent: float = 0.0
    open_gpu_hours: float = 0.0


class BudgetRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Requested jobs: GPUs and time limit in seconds of each (None: no limit), and how many of them."""

    gpus: int
    limit_s: float | None
    count: int = 1


class Overrun(msgspec.Struct, frozen=True, kw_only=True):
    """The reason why jobs may exceed a budget. `over`: a sentence with the figures; `hint`: what to do."""

    over: str
    hint: str


def period_start(period: Period, now: float) -> float:
    """Return the start of the current period in UTC seconds; weeks begin on Monday.

    >>> datetime.fromtimestamp(period_start("month", 1_800_000_000.0), UTC).isoformat()
    '2027-01-01T00:00:00+00:00'
    """
    day = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "week":
        day -= timedelta(days=day.weekday())
    elif period == "month":
        day = day.replace(day=1)
    return day.timestamp()


def worst_gpu_hours(asks: Sequence[BudgetRequest]) -> float | None:
    """Return the GPU-hours that the jobs take if each runs to its time limit; None where one has none."""
    total = 0.0
    for ask in asks:
        if not ask.gpus:
            continue
        if ask.limit_s is None:
            return None
        total += ask.gpus * ask.limit_s / 3600 * ask.count
    return total


def check_budget(
    budget: Budget, books: BudgetUsage, asks: Sequence[BudgetRequest], *, price: float | None, currency: str
) -> Overrun | None:
    """Return an overrun if `asks` may exceed `budget`.

    `price`: of a GPU-hour, the dearest that they may get. A budget in money without a price, or a job without
    a time limit, is an overrun too."""
    if not any(ask.gpus for ask in asks):
        return None
    whose = f"the budget of {budget.scope} {budget.name}"
    asked = worst_gpu_hours(asks)
    if asked is None:
        return Overrun(
            over=f"{whose} cannot be kept: a job without a time limit has no worst case",
            hint="give it a limit with --time",
        )
    if budget.amount is not None:
        if price is None:
            return Overrun(
                over=f"{whose} is in {currency}, and these GPUs have no price",
                hint="set [cost] prices, or give the budget in GPU-hours",
            )
        limit, spent, unit = budget.amount, books.spent, currency
        open_, wanted = books.open_gpu_hours * price, asked * price
    else:
        assert budget.gpu_hours is not None
        limit, spent, unit = budget.gpu_hours, books.spent_gpu_hours, "GPU-hours"
        open_, wanted = books.open_gpu_hours, asked
    left = limit - spent - open_
    if wanted <= left:
        return None
    return Overrun(
        over=f"at their limits these jobs take {wanted:,.2f} {unit};"
        f" {whose} has {max(0.0, left):,.2f} left of {limit:,.2f} for this {budget.period}"
        f" (spent {spent:,.2f}, queued and running {open_:,.2f})",
        hint=f"lower --time or --gpus, wait for the next {budget.period}, or ask an admin for"
        " `leptonctl budget`",
    )
