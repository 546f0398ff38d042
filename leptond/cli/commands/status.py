"""`leptonctl status`: the whole machine on one screen."""

from __future__ import annotations

from leptond.cli.commands.gpus import GPU_COLUMNS, gpu_row
from leptond.cli.framework.declare import command, option
from leptond.cli.framework.output import Cell, Column, plain_row, print_line, print_table
from leptond.cli.framework.params import SECONDS
from leptond.cli.framework.session import Session
from leptond.cli.framework.terminal import echo
from leptond.cli.text import phrases
from leptond.cli.text.queue_row import queue_row
from leptond.core.jobs.states import LIVE

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any

_HEAD = (
    Column("ID", right=True),
    Column("NAME", shorten=8),
    Column("USER", shorten=6, drop=4),
    Column("GPUS"),
    Column("PRI", right=True, drop=1),
    Column("STATE"),
    Column("TIME", right=True),
    Column("LIMIT", right=True, drop=2),
)
_STARTS = Column("STARTS", drop=3)
_WHY = Column("REASON", fold=True)
_HOW_FAR = Column("PROGRESS", fold=True)


@command("status", short_help="What runs, what waits and why, and whether all is well.")
@option("-w", "--watch", is_flag=True, help="Again and again, until Ctrl-C.")
@option("--every", type=SECONDS, default=2.0, metavar="TIME", help="How often, with --watch [2s].")
def status_command(session: Session, watch: bool, every: float) -> None:
    """Show the GPUs, what runs, what is next and why it waits, what failed lately, and whether all is
    well.

    In a pipe the first column says what a line is: gpu, running, next, failed, daemon, note or warning.
    """
    if watch:
        from leptond.cli.framework.watch import watch as again

        again(session, lambda: _show(session), every)
    else:
        _show(session)


def _show(session: Session) -> None:
    status = session.api.get("/v1/status")
    if session.json:
        session.emit(status)
    elif session.table:
        _screen(session, status)
    else:
        _lines(status)


def _screen(session: Session, status: phrases.Body) -> None:
    if status["gpus"]:
        print_table(session, GPU_COLUMNS, (gpu_row(gpu, table=True) for gpu in status["gpus"]))
    else:
        print_line(session, f"No GPUs ({status['gpu_note'] or status['gpu_backend']})", style="dim")
    how_far = (_HOW_FAR,) if any(map(phrases.progress_of, status["running"])) else ()
    for title, jobs, more in (
        ("Running", status["running"], how_far),
        ("Next", status["next"], (_STARTS, _WHY)),
        ("Failed lately", status["failed_recently"], (_WHY,)),
    ):
        if jobs:
            echo()
            # a queue's row ends with when it starts and why it waits, or how far it is
            rows = [
                [*row[: len(_HEAD)], *(row[-len(more) :] if more else ())]
                for row in (queue_row(job, table=True) for job in jobs)
            ]
            print_table(session, (*_HEAD, *more), rows, title=title)
    echo()
    print_line(session, _counts(status))
    print_line(session, _daemon(status), style="dim")
    for note in status["notes"]:
        print_line(session, f"note: {note}", style="dim")
    for warning in status["warnings"]:
        print_line(session, f"warning: {warning}", style="yellow")
    if is_well(status):
        print_line(session, "All is well.", style="green")
    if not any(status["counts"].values()):
        session.say(f"Queue the first job: {phrases.FIRST_SUBMIT}")


def is_well(status: phrases.Body) -> bool:
    """Return True if all is well: the daemon is ready, every GPU takes jobs, there are no warnings."""
    return (
        status["state"] == "ready"
        and not status["warnings"]
        and all(gpu["present"] and gpu["schedulable"] for gpu in status["gpus"])
    )


def _counts(status: phrases.Body) -> str:
    counts: dict[str, int] = status["counts"]
    busy = sum(gpu.get("job_id") is not None for gpu in status["gpus"])
    slots = status["cpu_slots"]
    live = sum(counts.get(state, 0) for state in LIVE)
    never = status.get("never", 0)  # a daemon of 0.4.0 sends none
    parts = [f"{live} running", f"{counts.get('pending', 0) - never} pending"]
    if status["held"]:
        parts[-1] += f" ({status['held']} held)"
    if never:
        parts.append(f"{never} can never start (leptonctl cancel --never)")
    if status["oldest_wait_s"] is not None:
        parts.append(f"oldest waits {phrases.span(status['oldest_wait_s'], table=True)}")
    if status["gpus"]:
        parts.append(f"GPUs {busy}/{len(status['gpus'])} in use")
    parts.append(f"CPU slots {slots['used']}/{slots['total']} in use")
    return " · ".join(parts)


def _daemon(status: phrases.Body) -> str:
    return (
        f"leptond {status['version']} {status['state']} · {status['mode']} mode · pid {status['pid']}"
        f" · started {phrases.ago(status['started_at'], table=True)} · GPUs by {status['gpu_backend']}"
    )


def _lines(status: phrases.Body) -> None:
    def line(kind: str, cells: list[Cell]) -> None:
        rows.append([kind, *cells])

    rows: list[list[Any]] = []
    for gpu in status["gpus"]:
        line("gpu", gpu_row(gpu, table=False))
    for kind, jobs in (
        ("running", status["running"]),
        ("next", status["next"]),
        ("failed", status["failed_recently"]),
    ):
        for job in jobs:
            line(kind, queue_row(job, table=False))
    line("daemon", [status["version"], status["state"], status["mode"], status["pid"], status["started_at"]])
    for state, count in status["counts"].items():
        line("count", [state, count])
    if status.get("never"):
        line("never", [status["never"]])
    for note in status["notes"]:
        line("note", [note])
    for warning in status["warnings"]:
        line("warning", [warning])
    line("well", ["yes" if is_well(status) else "no"])
    for row in rows:
        echo(plain_row(row))
