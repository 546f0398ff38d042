"""`leptonctl logs`: the output of a job, once or as it comes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from leptond.cli import refs
from leptond.cli.logtext import LogWriter
from leptond.cli.params import JOB
from leptond.cli.session import Session, command
from leptond.client import ClientError, ServerEvent
from leptond.core.timespec import format_size

_PIECE = 65536


@command("logs", short_help="The output of a job.")
@click.argument("job", type=JOB)
@click.option("-f", "--follow", is_flag=True, help="Go on as it comes, over retries, until the job has ended.")
@click.option("-n", "--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines.")
@click.option("--attempt", type=click.IntRange(1), metavar="K", help="Of this attempt [the newest].")
@click.option("--raw", is_flag=True, help="Every byte as the job wrote it, also what steers the terminal.")
def logs_command(
    session: Session, job: str, follow: bool, tail: int | None, attempt: int | None, raw: bool
) -> None:
    """Print what JOB has written: standard output and standard error together.

    JOB may name an attempt, as in 47.2. Control sequences are left out, except colours on a terminal.
    """
    ref, named = refs.one_with_attempt(session, job)
    query = {"attempt": attempt if attempt is not None else named, "tail": tail}
    if follow:
        if session.json:
            _follow_json(session, ref, query)
        else:
            show_events(session, stream_events(session, ref, query), raw=raw)
    else:
        _print(session, ref, query, raw)


def stream_events(session: Session, ref: str, query: dict[str, Any]) -> Iterator[ServerEvent]:
    """The events of a job's output, over restarts of the daemon. Raises ClientError."""

    def lost(error: ClientError) -> None:
        session.warn(f"{error}; trying again")

    return session.api.follow(refs.job_path(ref, "log/stream"), query, on_lost=lost)


def show_events(
    session: Session, events: Iterator[ServerEvent], *, raw: bool, writer: LogWriter | None = None
) -> None:
    """Prints output as it comes, until its end. Raises ClientError."""
    writer = writer or LogWriter(raw=raw, color=session.color)
    try:
        for event in events:
            data = event.json() or {}
            if event.type == "log.chunk":
                writer.write(str(data.get("text", "")))
            elif event.type == "log.attempt" and data.get("number", 1) > 1:
                writer.finish()
                session.say(f"-- attempt {data['number']} --")
            elif event.type == "log.gap":
                writer.finish()
                session.say(f"-- {format_size(data.get('dropped_bytes', 0))} of output were not kept --")
    finally:
        writer.finish()


def _follow_json(session: Session, ref: str, query: dict[str, Any]) -> None:
    for event in stream_events(session, ref, query):
        if event.type:
            click.echo(json.dumps({"event": event.type, "id": event.id, "data": event.json()}))


def _print(session: Session, ref: str, query: dict[str, Any], raw: bool) -> None:
    writer = LogWriter(raw=raw, color=session.color)
    pieces: list[bytes] = []
    headers = {"Accept": "text/plain"}
    with session.api.stream(refs.job_path(ref, "log"), query, headers) as response:
        while piece := response.read1(_PIECE):
            if session.json:
                pieces.append(piece)
            else:
                writer.write(piece)
        found = response.headers
    writer.finish()
    dropped = int(found.get("X-Log-Dropped") or 0)
    if session.json:
        session.emit(
            {
                "ref": ref,
                "attempt": int(found.get("X-Log-Attempt") or 0),
                "size_bytes": int(found.get("X-Log-Size") or 0),
                "next_offset": int(found.get("X-Log-Next-Offset") or 0),
                "dropped_bytes": dropped,
                "text": b"".join(pieces).decode("utf-8", "replace"),
            }
        )
    elif dropped:
        session.warn(f"{format_size(dropped)} in the middle of this output were not kept (--log-max)")
