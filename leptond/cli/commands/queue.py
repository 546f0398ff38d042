"""`leptonctl queue` and `leptonctl history`: lists of jobs."""

from __future__ import annotations

from collections.abc import Callable

from leptond.cli.commands.job_fields import filter_options
from leptond.cli.framework import refs
from leptond.cli.framework.declare import F, command, option
from leptond.cli.framework.output import Cell, Column, print_table
from leptond.cli.framework.params import SECONDS, SINCE, Whole
from leptond.cli.framework.session import Session
from leptond.cli.text import phrases
from leptond.cli.text.queue_row import queue_row
from leptond.client.errors import ApiError
from leptond.core.jobs.fields import FILTERS
from leptond.core.jobs.states import TERMINAL, UNFINISHED

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any

_COLUMNS = (
    Column("ID", right=True),
    Column("NAME", shorten=8),
    Column("USER", shorten=6, drop=4),
    Column("GPUS"),
    Column("PRI", right=True, drop=1),
    Column("STATE"),
    Column("TIME", right=True),
    Column("LIMIT", right=True, drop=2),
    Column("STARTS", drop=3),
    Column("REASON", fold=True),
)
_HISTORY_COLUMNS = (
    Column("ID", right=True),
    Column("NAME", shorten=8),
    Column("USER", shorten=6, drop=4),
    Column("GPUS"),
    Column("STATE"),
    Column("EXIT", right=True, drop=6),
    Column("TRIES", right=True, drop=3),
    Column("TIME", right=True),
    Column("GPU-H", right=True, drop=2),
    Column("SUBMITTED", drop=1),
    Column("ENDED", drop=5),
    Column("REASON", fold=True),
)

_FILTERS: tuple[Callable[[Any], Any], ...] = (
    option("--mine", is_flag=True, help="Only my own jobs."),
    filter_options,
    option("--label", metavar="K=V", help="Only those with this label."),
    option("--array", metavar="ID", help="Only the members of this array."),
    option("--no-header", is_flag=True, help="Leave the column heads out."),
)


def _filters(function: F) -> F:
    for add in reversed(_FILTERS):
        function = add(function)
    return function


def _query(given: dict[str, Any], states: str) -> dict[str, Any]:
    return {
        "state": given["state"] or states,
        **{field.name: given[field.name] for field in FILTERS},
        **({"user": refs.me()} if given["mine"] else {}),
        "label": given["label"],
        "array": given["array"],
    }


@command("queue", short_help="The jobs that run or wait, in queue order.")
@_filters
@option("--state", metavar="STATES", help="pending, starting, running, stopping (comma list).")
@option("-n", "--limit", type=Whole(1), metavar="N", help="At most N jobs [all].")
@option("-w", "--watch", is_flag=True, help="Again and again, until Ctrl-C.")
@option("--every", type=SECONDS, default=2.0, metavar="TIME", help="How often, with --watch [2s].")
def queue_command(session: Session, watch: bool, every: float, **given: Any) -> None:
    """List the jobs that run or wait: first those that run, then the others in the order in which they
    would start.

    On a terminal an array is one line, which --array ID opens, and TIME is how long a job has run or
    waited. In a pipe the columns are separated by tabs, times are in seconds, each member of an array has a
    line, and nothing is cut off.
    """
    if watch:
        from leptond.cli.framework.watch import watch as again

        again(session, lambda: _show_queue(session, **given), every)
    else:
        _show_queue(session, **given)


def _show_queue(session: Session, limit: int | None, no_header: bool, **given: Any) -> None:
    # for people an array is one line; programs get all that there is
    whole = {"whole": "true"} if session.table and not given["array"] else {}
    query = {**_query(given, phrases.state_filter(UNFINISHED)), "order": "queue"}
    try:
        page = session.api.pages("/v1/jobs", {**query, **whole}, limit=limit)
    except ApiError as error:
        if error.status != 422 or not whole:
            raise
        page = session.api.pages("/v1/jobs", query, limit=limit)  # a daemon of 0.4.0 lists members only
    if session.json:
        session.emit(page)
        return
    if not page["items"]:
        narrowed = any(given.values())
        session.say(
            "No job here runs or waits."
            if narrowed
            else f"The queue is empty. Queue something: {phrases.FIRST_SUBMIT}"
        )
        if session.table:
            return
    rows = (queue_row(job, table=session.table) for job in page["items"])
    print_table(session, _COLUMNS, rows, header=not no_header)
    if opened := next((job for job in page["items"] if phrases.is_array(job)), None):
        session.say(f"An array is one line: leptonctl queue --array {opened['array_id']} lists its members.")
    if page["next_cursor"] is not None:
        session.say("There are more; show them with a larger --limit.")


@command("history", short_help="The jobs that have ended, newest first.")
@_filters
@option("--state", metavar="STATES", help="succeeded, failed, timed_out, cancelled, lost (comma list).")
@option("--since", type=SINCE, help="Submitted since: 2h, 3d, today, 2026-12-24.")
@option("-n", "--limit", type=Whole(1), default=25, metavar="N", help="At most N jobs [25].")
def history_command(session: Session, limit: int, no_header: bool, since: str | None, **given: Any) -> None:
    """List the jobs that have ended, the newest first."""
    query = {**_query(given, phrases.state_filter(TERMINAL)), "since": since, "order": "newest"}
    page = session.api.pages("/v1/jobs", query, limit=limit)
    if session.json:
        session.emit(page)
        return
    if not page["items"]:
        session.say(f"No job has ended yet. Queue something: {phrases.FIRST_SUBMIT}")
        if session.table:
            return
    rows = (_history_row(job, table=session.table) for job in page["items"])
    print_table(session, _HISTORY_COLUMNS, rows, header=not no_header)


def _history_row(job: phrases.Body, *, table: bool) -> list[Cell]:
    return [
        job["ref"],
        job["name"],
        job["user"],
        job["gpus"],
        job["state"],
        phrases.end_of(job),
        job["attempt"],
        phrases.span(phrases.time_of(job), table=table),
        phrases.gpu_hours(job),
        phrases.ago(job["submitted_at"], table=table),
        phrases.ago(job.get("ended_at"), table=table),
        phrases.reason_of(job),
    ]
