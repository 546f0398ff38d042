"""`leptonctl budget`: what users and projects may spend."""

from __future__ import annotations

from urllib.parse import quote

import click

from leptond.cli.commands.cost import amount as money
from leptond.cli.framework.click_bridge import command
from leptond.cli.framework.output import Cell, Column, print_table
from leptond.cli.framework.session import Session
from leptond.cli.text import phrases

_COLUMNS = (
    Column("BUDGET"),
    Column("PERIOD"),
    Column("LIMIT", right=True),
    Column("SPENT", right=True),
    Column("OPEN GPU-H", right=True),
    Column("BEYOND"),
)


@command("budget", short_help="What users and projects may spend.")
@click.argument("whose", required=False, metavar="[user:NAME|project:NAME]")
@click.option("--amount", type=float, help="So much money in each period.")
@click.option("--gpu-hours", type=float, help="So many GPU-hours in each period.")
@click.option("--per", type=click.Choice(["day", "week", "month"]), default="month", show_default=True)
@click.option("--warn", is_flag=True, help="Beyond it only warn (else a submit is refused).")
@click.option("--remove", is_flag=True, help="Take the budget away.")
def budget_command(
    session: Session,
    whose: str | None,
    amount: float | None,
    gpu_hours: float | None,
    per: str,
    warn: bool,
    remove: bool,
) -> None:
    """List the budgets, or set or remove the one of a user or a project. A submit counts with its worst
    case: GPUs x time limit x price."""
    given = (amount is not None) + (gpu_hours is not None) + remove
    if whose is None:
        if given or warn:
            raise click.UsageError("whose budget? name user:NAME or project:NAME")
        _list(session)
        return
    scope, mark, name = whose.partition(":")
    if scope not in ("user", "project") or not mark or not name:
        raise click.UsageError("a budget is of user:NAME or project:NAME")
    if given != 1:
        raise click.UsageError("give one of --amount, --gpu-hours and --remove")
    path = f"/v1/budgets/{scope}/{quote(name, safe='')}"
    if remove:
        session.api.request("DELETE", path)
        click.echo(f"{whose} has no budget now")
        return
    body = {"period": per, "action": "warn" if warn else "refuse"}
    body |= {"amount": amount} if amount is not None else {"gpu_hours": gpu_hours}  # type: ignore[dict-item]
    found = session.api.request("PUT", path, body=body).json()
    if session.json:
        session.emit(found)
    else:
        print_table(session, _COLUMNS, [_row(found)])


def _list(session: Session) -> None:
    found = session.api.get("/v1/budgets")
    if session.json:
        session.emit(found)
        return
    if not found["items"]:
        session.say("There are no budgets. Set one: leptonctl budget user:ana --gpu-hours 200 --per week")
        if session.table:
            return
    print_table(session, _COLUMNS, map(_row, found["items"]))


def _row(line: phrases.Body) -> list[Cell]:
    in_money = line["amount"] is not None
    unit = line["currency"] if in_money else "GPU-h"
    return [
        f"{line['scope']}:{line['name']}",
        line["period"],
        f"{money(line['amount'] if in_money else line['gpu_hours'])} {unit}",
        f"{money(line['spent'] if in_money else line['spent_gpu_hours'])} {unit}",
        money(line["open_gpu_hours"]),
        line["action"],
    ]
