"""`leptonctl plan`: who starts when, on which GPUs."""

from __future__ import annotations

import click

from leptond.cli.framework.click_bridge import command
from leptond.cli.framework.output import Cell, Column, print_table
from leptond.cli.framework.session import Session
from leptond.cli.text import phrases

POLICIES = ("auto", "fifo", "firstfit", "shortest", "easy", "throughput")

_COLUMNS = (
    Column("ID", right=True),
    Column("NAME", shorten=8),
    Column("USER", shorten=6),
    Column("GPUS"),
    Column("STARTS"),
    Column("EARLIEST"),
    Column("LATEST"),
    Column("ENDS"),
)


@command("plan", short_help="Who starts when, on which GPUs.")
@click.option("--policy", type=click.Choice(POLICIES), help="As if that policy decided.")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 1000), default=100, metavar="N", help="At most N [100]."
)
@click.option("--no-header", is_flag=True, help="Leave the column heads out.")
def plan_command(session: Session, policy: str | None, limit: int, no_header: bool) -> None:
    """Show when the jobs that wait will start, and on which GPUs, if runs take what is expected and nothing
    else is submitted.

    What is expected comes from earlier runs of the same command, else from the time limit. EARLIEST and
    LATEST are the same if all runs take half of that, or twice. Nothing is changed by looking, whatever the
    policy.
    """
    query = {"policy": policy, "limit": limit}
    found = session.api.get("/v1/plan", {name: value for name, value in query.items() if value is not None})
    if session.json:
        session.emit(found)
        return
    if not found["items"]:
        session.say("No job waits for a start that can be foretold.")
        if session.table:
            return
    rows = (_row(item, table=session.table) for item in found["items"])
    print_table(session, _COLUMNS, rows, header=not no_header)
    if found["not_foretold"]:
        session.say(f"{found['not_foretold']} more start later than can be foretold, or not as things are.")


def _row(item: phrases.Body, *, table: bool) -> list[Cell]:
    return [
        item["ref"],
        item["name"],
        item["user"],
        ",".join(str(index) for index in item["gpu_indices"]) or "cpu",
        phrases.ago(item["starts_at"], table=table),
        phrases.ago(item.get("earliest_at"), table=table),
        phrases.ago(item.get("latest_at"), table=table),
        phrases.ago(item["ends_at"], table=table) if item.get("ends_known", True) else "unknown",
    ]
