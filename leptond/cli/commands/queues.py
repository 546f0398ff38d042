"""`leptonctl queues`: list them and change them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import click

from leptond.cli.framework.click_bridge import Verbs, command, shared_options
from leptond.cli.framework.declare import F
from leptond.cli.framework.output import Cell, Column, print_table
from leptond.cli.framework.params import LIMIT, commas
from leptond.cli.framework.session import Session
from leptond.cli.text import phrases

_QUEUE_COLUMNS = (
    Column("QUEUE"),
    Column("STATE"),
    Column("WEIGHT", right=True),
    Column("PENDING", right=True),
    Column("RUNNING", right=True),
    Column("GPUS", right=True),
    Column("OWNS"),
    Column("BORROW"),
    Column("LEND"),
    Column("MAX", right=True),
    Column("LIMIT", right=True),
    Column("USERS", fold=True),
)


@click.group(
    "queues",
    cls=Verbs,
    invoke_without_command=True,
    short_help="The queues: list, add, set, remove.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@shared_options(hidden=True)
@click.option("--no-header", is_flag=True, help="Leave the column heads out.")
@click.pass_context
def queues_command(ctx: click.Context, no_header: bool) -> None:
    """List the queues, or change them: add, set, remove. Changes count at once.

    OWNS are the GPUs that only its jobs get, except that idle ones are lent (LEND: to all, to preemptible
    jobs, to none) to jobs of queues that BORROW. GPUS are in use by its jobs now.
    """
    if ctx.invoked_subcommand is None:
        _list_queues(ctx.ensure_object(Session), header=not no_header)


def _list_queues(session: Session, *, header: bool) -> None:
    found = session.api.get("/v1/queues")
    if session.json:
        session.emit(found)
        return
    print_table(session, _QUEUE_COLUMNS, map(_queue_row(session), found["items"]), header=header)


def _queue_row(session: Session) -> Callable[[phrases.Body], list[Cell]]:
    def row(queue: phrases.Body) -> list[Cell]:
        owned = ",".join(gpu["uuid"] if gpu["index"] is None else str(gpu["index"]) for gpu in queue["gpus"])
        return [
            queue["name"],
            queue["state"],
            f"{queue['weight']:g}",
            queue["pending"],
            queue["running"],
            f"{queue['running_gpus']:g}",
            owned or None,
            "yes" if queue["borrow"] else "no",
            queue["lend"],
            queue["max_gpus"],
            phrases.span(queue["max_time_limit_s"], table=session.table),
            ",".join(queue["users"]) or None,
        ]

    return row


_NONE = "none"


def _or_none(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """The value of an option of which ``none`` takes away what was set."""

    def convert(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        if value is None or value == _NONE:
            return value
        try:
            return parse(value)
        except ValueError:
            raise click.BadParameter(f"{value!r} is neither a number nor none", ctx, param) from None

    return convert


_FIELDS: tuple[Callable[[Any], Any], ...] = (
    click.option("--state", type=click.Choice(["open", "closed"]), help="Whether it takes new jobs."),
    click.option("--weight", type=float, metavar="N", help="Its part beside other queues [1]."),
    click.option("--priority", "default_priority", type=int, metavar="N", help="Of jobs that name none."),
    click.option(
        "--time",
        "default_time_limit_s",
        callback=_or_none(LIMIT),
        metavar="TIME",
        help="Time limit of jobs that name none; none takes it away.",
    ),
    click.option(
        "--max-time",
        "max_time_limit_s",
        callback=_or_none(LIMIT),
        metavar="TIME",
        help="Longest time limit.",
    ),
    click.option("--max-gpus", callback=_or_none(int), metavar="N", help="Most GPUs of one job."),
    click.option("--users", metavar="NAMES", help="Who may submit, with commas; all for everybody."),
    click.option("--gpus", metavar="GPUS", help="What it owns, by index or UUID, with commas; none."),
    click.option("--borrow/--no-borrow", default=None, help="Its jobs may use idle GPUs of other queues."),
    click.option(
        "--lend",
        type=click.Choice(["all", "preemptible", "none"]),
        help="To whom its idle GPUs are lent [all].",
    ),
)


def _fields(function: F) -> F:
    for option in reversed(_FIELDS):
        function = option(function)
    return function


def _body(given: dict[str, Any]) -> dict[str, Any]:
    """The options of the command line as the API takes them."""
    body = {name: None if value == _NONE else value for name, value in given.items() if value is not None}
    if given["lend"] is not None:
        body["lend"] = given["lend"]  # here none is a word of its own
    if given["users"] is not None:
        body["users"] = [] if given["users"] == "all" else commas((given["users"],))
    if given["gpus"] is not None:
        body["gpus"] = [] if given["gpus"] == _NONE else commas((given["gpus"],))
    return body


def _show(session: Session, queue: phrases.Body, verb: str) -> None:
    if session.json:
        session.emit(queue)
    else:
        click.echo(f"Queue {queue['name']} {verb}")


@command("add", short_help="Make a queue.")
@click.argument("name")
@_fields
def _add(session: Session, name: str, **given: Any) -> None:
    """Make a queue."""
    _show(session, session.api.post("/v1/queues", {"name": name, **_body(given)}), "added")


@command("set", short_help="Change a queue.")
@click.argument("name")
@_fields
def _set(session: Session, name: str, **given: Any) -> None:
    """Change a queue: what is not named stays."""
    body = _body(given)
    if not body:
        raise click.UsageError("nothing to change; name an option, such as --weight 2")
    _show(session, session.api.request("PATCH", f"/v1/queues/{quote(name)}", body=body).json(), "changed")


@command("remove", short_help="Remove an empty queue.")
@click.argument("name")
def _remove(session: Session, name: str) -> None:
    """Remove a queue in which no job waits or runs; its GPUs are everybody's then."""
    session.api.request("DELETE", f"/v1/queues/{quote(name)}")
    if not session.json:
        click.echo(f"Queue {name} removed")


for _verb in (_add, _set, _remove):
    queues_command.add_command(_verb)
