"""Budgets over HTTP: users read their own and those of their projects, admins change them while the daemon
runs."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from leptond.api.http.routing import Call, Table
from leptond.base.errors import Invalid, NotFound
from leptond.core.access.policies import Policy
from leptond.core.accounting.budgets import Action, Budget, Period
from leptond.services import access
from leptond.store import Connection
from leptond.store.accounting import budgets
from leptond.store.queue import fair_share

table = Table("budgets")


class BudgetLine(msgspec.Struct, kw_only=True):
    """A budget and what counts against it: what ended in the period was spent, what is queued or runs may
    still be. One of `amount` (in `currency`) and `gpu_hours` is set."""

    scope: str
    name: str
    period: Period
    amount: float | None
    gpu_hours: float | None
    action: Action
    currency: str
    spent: float
    spent_gpu_hours: float
    open_gpu_hours: float


class BudgetList(msgspec.Struct, kw_only=True):
    items: list[BudgetLine]


class SetBudget(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Either `amount`, in the currency of the prices, or `gpu_hours`, for each period (UTC; weeks begin on
    Monday)."""

    period: Period = "month"
    amount: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    gpu_hours: Annotated[float, Meta(ge=0, le=1e12)] | None = None
    action: Action = "refuse"


@table.route("GET", "/v1/budgets", Policy.LOOK, answer=BudgetList)
async def list_budgets(call: Call) -> BudgetList:
    """List the budgets and what counts against them: of oneself and of one's projects."""
    boot, rights = call.context.clock.boot(), call.rights
    currency, now = call.context.settings.cost.currency, call.context.clock.wall()

    def fetch(db: Connection) -> BudgetList:
        used = () if rights.sees_everything else fair_share.used(db, now=now, boot=boot)
        return BudgetList(
            items=[
                _line(db, budget, currency, now)
                for budget in budgets.every(db)
                if access.sees_budget(rights, used, budget)
            ]
        )

    return await call.context.store.survey(fetch)


def _line(db: Connection, budget: Budget, currency: str, now: float) -> BudgetLine:
    books = budgets.books(db, budget, now)
    return BudgetLine(
        scope=budget.scope,
        name=budget.name,
        period=budget.period,
        amount=budget.amount,
        gpu_hours=budget.gpu_hours,
        action=budget.action,
        currency=currency,
        spent=books.spent,
        spent_gpu_hours=books.spent_gpu_hours,
        open_gpu_hours=books.open_gpu_hours,
    )


def _scope(call: Call) -> str:
    scope = call.path("scope")
    if scope not in ("user", "project"):
        raise NotFound(f"there are no budgets of {scope[:40]!r}", hint="a budget is of a user or a project")
    return scope


def _name(call: Call) -> str:
    name = call.path("name")
    if not name or len(name) > 128:
        raise NotFound("this cannot be the name of a user or a project")
    return name


@table.route(
    "PUT", "/v1/budgets/{scope}/{name}", Policy.ADMINISTER, body=SetBudget, answer=BudgetLine, errors=(404,)
)
async def set_budget(call: Call) -> BudgetLine:
    """Set the budget of a user or a project; it counts from the next submit on."""
    body: SetBudget = call.body
    if (body.amount is None) == (body.gpu_hours is None):
        raise Invalid("a budget has either an amount or gpu_hours", pointer="/amount")
    scope, name = _scope(call), _name(call)
    now, by, currency = call.context.clock.wall(), call.caller.user, call.context.settings.cost.currency
    budget = msgspec.convert({"scope": scope, "name": name, **msgspec.structs.asdict(body)}, Budget)

    def change(db: Connection) -> BudgetLine:
        budgets.put(db, budget, by=by, now=now)
        return _line(db, budget, currency, now)

    return await call.context.store.write(change)


@table.route("DELETE", "/v1/budgets/{scope}/{name}", Policy.ADMINISTER, status=204, errors=(404,))
async def remove_budget(call: Call) -> None:
    """Remove a budget."""
    await call.context.store.write(
        budgets.remove, _scope(call), _name(call), by=call.caller.user, now=call.context.clock.wall()
    )
