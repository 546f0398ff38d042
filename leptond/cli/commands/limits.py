"""`leptonctl limits`: limits, current use and past use of users and projects."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from leptond.cli.framework.click_bridge import Verbs, command, shared_options
from leptond.cli.framework.output import Cell, Column, print_table
from leptond.cli.framework.session import Session
from leptond.cli.text import phrases

_SHARE_COLUMNS = (
    Column("KIND"),
    Column("NAME", shorten=8),
    Column("GPUS", right=True),
    Column("MAX-GPUS", right=True),
    Column("PENDING", right=True),
    Column("MAX-PENDING", right=True),
    Column("WEIGHT", right=True),
    Column("USED-GPU-H", right=True),
)


@click.group(
    "limits",
    cls=Verbs,
    invoke_without_command=True,
    short_help="Limits, current use and past use of users and projects.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@shared_options(hidden=True)
@click.option("--no-header", is_flag=True, help="Leave the column heads out.")
@click.pass_context
def limits_command(ctx: click.Context, no_header: bool) -> None:
    """List users and projects with their limits (MAX), current use, and past use (USED-GPU-H, which decays by
    half in each half-life), or change limits: set, remove."""
    if ctx.invoked_subcommand is None:
        session = ctx.ensure_object(Session)
        found = session.api.get("/v1/shares")
        if session.json:
            session.emit(found)
        else:
            print_table(session, _SHARE_COLUMNS, map(_share_row, found["items"]), header=not no_header)


def _share_row(share: phrases.Body) -> list[Cell]:
    return [
        share["kind"],
        share["name"],
        f"{share['running_gpus']:g}",
        share["max_gpus"],
        share["pending"],
        share["max_pending"],
        f"{share['weight']:g}",
        round(share["used_gpu_s"] / 3600, 2),
    ]


_KIND = click.Choice(["user", "project"])


@command("set", short_help="Set the caps of a user or a project.")
@click.argument("kind", type=_KIND)
@click.argument("name")
@click.option("--max-gpus", type=click.IntRange(0), metavar="N", help="Most GPUs at a time.")
@click.option("--max-pending", type=click.IntRange(0), metavar="N", help="Most jobs that wait.")
@click.option("--weight", type=float, metavar="N", help="Its part beside others in fair share [1].")
def _set_limits(session: Session, kind: str, name: str, **given: Any) -> None:
    """Set the caps of a user or a project, in place of what was set; what is not named is as the
    configuration says."""
    body = {field: value for field, value in given.items() if value is not None}
    if not body:
        raise click.UsageError("nothing to set; name an option, such as --max-gpus 4")
    share = session.api.request("PUT", f"/v1/limits/{kind}/{quote(name)}", body=body).json()
    if session.json:
        session.emit(share)
    else:
        click.echo(f"Limits of {kind} {name} set")


@command("remove", short_help="Forget the caps of a user or a project.")
@click.argument("kind", type=_KIND)
@click.argument("name")
def _remove_limits(session: Session, kind: str, name: str) -> None:
    """Forget what was set for a user or a project: the configuration counts again."""
    session.api.request("DELETE", f"/v1/limits/{kind}/{quote(name)}")
    if not session.json:
        click.echo(f"Limits of {kind} {name} removed")


for _verb in (_set_limits, _remove_limits):
    limits_command.add_command(_verb)
