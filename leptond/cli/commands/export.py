"""`leptonctl export`: jobs as a table for other programs."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import click

from leptond.cli.commands.job_fields import FILTER_HELP
from leptond.cli.framework.click_bridge import command, kind
from leptond.cli.framework.declare import F
from leptond.cli.framework.params import SINCE
from leptond.cli.framework.progress import Bar
from leptond.cli.framework.session import Session, leave
from leptond.cli.text import phrases
from leptond.core.jobs.field import Field, Kind
from leptond.core.jobs.fields import FIELDS

Take = Callable[[Mapping[str, Any]], Any]


def _taken(field: Field) -> Take:
    if field.kind is Kind.PAIRS:
        return lambda job: json.dumps(job.get(field.name) or {}, sort_keys=True)
    return lambda job: job.get(field.name)


_FROM_TABLE: dict[str, Take] = {field.name: _taken(field) for field in FIELDS if field.exported}
_MADE: dict[str, Take] = {
    "ref": lambda job: job["ref"],
    "attempts": lambda job: job["attempt"],
    "run_s": lambda job: job.get("run_s"),
    "gpu_seconds": lambda job: job.get("gpu_seconds"),
    "argv": lambda job: json.dumps(job["spec"]["argv"]),
}
_ORDER = (
    *("id", "ref", "name", "user", "project", "state", "class", "exit_code", "signal", "explanation", "gpus"),
    *("priority", "attempts", "run_s", "gpu_seconds", "time_limit_s", "submitted_at", "started_at"),
    *("ended_at", "labels", "argv"),
)
"""The order of the first version, which readers of files may count on; what came later follows."""

COLUMNS: dict[str, Take] = {name: {**_FROM_TABLE, **_MADE}[name] for name in _ORDER} | _FROM_TABLE
"""The columns of a row. Times are RFC 3339 in UTC, durations seconds; labels and argv are JSON."""

USAGE_COLUMNS = (
    "key",
    "jobs",
    "gpu_seconds",
    "productive_gpu_seconds",
    "wasted_gpu_seconds",
    "idle_gpu_seconds",
    "kwh",
    "cost",
)
"""The columns of a row of usage; before them the window, behind them the currency."""


def _filters(function: F) -> F:
    for name, help in reversed(FILTER_HELP.items()):
        function = click.option(name, help=help)(function)
    return function


@command("export", short_help="Jobs as CSV, JSON lines or Parquet.")
@click.option("--csv", "kind", flag_value="csv", help="Comma-separated values [this].")
@click.option("--json-lines", "kind", flag_value="json", help="A JSON object a line, as the API has it.")
@click.option("--parquet", "kind", flag_value="parquet", help="Parquet (needs pyarrow, and -o).")
@click.option("-o", "--output", metavar="FILE", help="Where to [standard output].")
@click.option("--usage", metavar="BY", help="Not jobs but GPU time by user, project, queue, job or gpu.")
@click.option("--state", metavar="STATES", help="Only these (comma list) [all].")
@_filters
@click.option("--since", type=kind(SINCE), help="Submitted since: 2h, 3d, today, 2026-12-24.")
def export_command(
    session: Session, kind: str | None, output: str | None, usage: str | None, **given: Any
) -> None:
    """Write all jobs, the newest first, with what became of them and the GPU time they took; or with --usage
    where GPU time went since --since [7 days ago].

    A file is complete or not there: it is written aside and renamed. With --json all is one document, and no
    file.
    """
    if session.json and kind is None:
        if output is not None:
            raise click.UsageError("--json prints one document; a file is written with --json-lines -o FILE")
        kind = "document"
    kind = kind or "csv"
    if kind == "parquet" and output is None:
        raise click.UsageError("--parquet needs a file: -o jobs.parquet")
    query = {name: value for name, value in given.items() if value is not None}
    if usage is not None:
        if query.keys() - {"since"}:
            raise click.UsageError("--usage takes --since, and no choice of jobs")
        rows = _usage(session, usage, query.get("since"))
        _write(session, kind, output, ("since", "until", *USAGE_COLUMNS, "currency"), rows)
        return
    if output is None:
        _write(session, kind, None, tuple(COLUMNS), _jobs(session, query), row_of)
        return
    with Bar(session, "exporting jobs", None if query else lambda: _how_many(session)) as bar:
        _write(session, kind, output, tuple(COLUMNS), _jobs(session, query, bar), row_of)


Row = Mapping[str, Any]


def _write(
    session: Session,
    kind: str,
    output: str | None,
    columns: tuple[str, ...],
    found: Iterator[dict[str, Any]],
    row: Callable[[Row], Row] = lambda one: one,
) -> None:
    """Write the objects of `found`: as they are in JSON, else each as a `row` of `columns`."""
    if kind == "parquet":
        write_parquet(session, columns, map(row, found), Path(str(output)))
        return
    with contextlib.nullcontext(sys.stdout) if output is None else _aside(Path(output)) as file:
        if kind == "document":
            session.emit({"items": list(found), "next_cursor": None})
        elif kind == "json":
            write_json_lines(found, file)
        else:
            write_csv(columns, map(row, found), file)


def _usage(session: Session, by: str, since: str | None) -> Iterator[dict[str, Any]]:
    """Export the GPU time of each group, and its cost."""
    answer = session.api.get("/v1/usage", {"group_by": by, "since": since})
    window = {"since": answer["since"], "until": answer["until"]}
    for one in answer["groups"]:
        kept = {name: one.get(name) for name in USAGE_COLUMNS}
        yield {**window, **kept, "currency": answer["currency"]}


def _how_many(session: Session) -> int:
    return sum(session.api.get("/v1/status")["counts"].values())


def _jobs(session: Session, query: Mapping[str, Any], bar: Bar | None = None) -> Iterator[dict[str, Any]]:
    """Every job, the newest first, a page at a time."""
    cursor = None
    while True:
        page = session.api.get("/v1/jobs", {**query, "order": "newest", "limit": 500, "cursor": cursor})
        if bar is not None:
            bar.add(len(page["items"]))
        yield from page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def row_of(job: Mapping[str, Any]) -> dict[str, Any]:
    """A job as a row under COLUMNS."""
    return {name: take(job) for name, take in COLUMNS.items()}


def write_csv(columns: tuple[str, ...], rows: Iterator[Row], file: IO[str]) -> None:
    """RFC 4180, with a head. A text that a spreadsheet would take for a formula gets a quote before it."""
    table = csv.DictWriter(file, columns, lineterminator="\r\n")
    table.writeheader()
    for row in rows:
        table.writerow({name: _harmless(value) for name, value in row.items()})


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def write_json_lines(jobs: Iterator[dict[str, Any]], file: IO[str]) -> None:
    """The API's objects, one a line."""
    for job in jobs:
        file.write(json.dumps(job) + "\n")


def write_parquet(session: Session, names: tuple[str, ...], rows: Iterator[Row], output: Path) -> None:
    """The same columns, typed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        session.warn("Parquet is written by pyarrow, which is not installed here: pip install pyarrow")
        leave(1)
        return
    moments = {"submitted_at", "started_at", "ended_at", "since", "until"}
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        for name, value in row.items():
            columns[name].append(phrases.instant(value) if name in moments else value)
    table = pyarrow.table(columns)
    if _is_special(output):
        with output.open("wb") as file:
            parquet.write_table(table, file)
        return
    temporary = output.with_name(f".{output.name}.tmp")
    parquet.write_table(table, temporary)
    temporary.replace(output)


def _is_special(path: Path) -> bool:
    """Return True for a device, a FIFO and their like: written to, never replaced by a file."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[IO[str]]:
    if _is_special(path):
        with path.open("w", newline="", encoding="utf-8") as file:
            yield file
        return
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
