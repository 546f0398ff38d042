"""`leptonctl logs`: the output of a job, once or as it comes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from leptond.cli.framework import refs
from leptond.cli.framework.declare import argument, command, option
from leptond.cli.framework.params import JOB, Whole
from leptond.cli.framework.session import Session, leave
from leptond.cli.framework.terminal import echo
from leptond.cli.text.log_text import LogWriter
from leptond.client.errors import EXIT_NOT_FOUND
from leptond.client.server_events import ServerEvent
from leptond.core.jobs.timespec import format_size


@command("logs", short_help="The output of a job.")
@argument("job", type=JOB)
@option("-f", "--follow", is_flag=True, help="Go on as it comes, over retries, until the job has ended.")
@option("-n", "--tail", type=Whole(0), metavar="N", help="Only the last N lines.")
@option("--attempt", type=Whole(1), metavar="K", help="Of this attempt [the newest].")
@option("--raw", is_flag=True, help="Every byte as the job wrote it, also what steers the terminal.")
def logs_command(
    session: Session, job: str, follow: bool, tail: int | None, attempt: int | None, raw: bool
) -> None:
    """Print what JOB has written: standard output and standard error together.

    JOB may name an attempt, as in 47.2. Control sequences are left out, except colours on a terminal. Into a
    pipe or a file go the lines as a terminal would show them: a progress bar is one line.
    """
    ref, named = refs.one_with_attempt(session, job)
    query = {"attempt": attempt if attempt is not None else named, "tail": tail}
    if follow:
        if session.json:
            there = _follow_json(session, ref, query)
        else:
            there = show_events(session, stream_events(session, ref, query), raw=raw)
        if not there:
            leave(EXIT_NOT_FOUND)
    else:
        _print(session, ref, query, raw)


def stream_events(session: Session, ref: str, query: dict[str, Any]) -> Iterator[ServerEvent]:
    """The events of a job's output, over restarts of the daemon. Raises ClientError."""
    return session.api.follow(refs.job_path(ref, "log/stream"), query, on_lost=session.lost)


def show_events(
    session: Session, events: Iterator[ServerEvent], *, raw: bool, writer: LogWriter | None = None
) -> bool:
    """Print output as it comes, until its end. Return False if there is nothing left of it. Raises
    ClientError."""
    writer = writer or LogWriter(raw=raw, color=session.color)
    shown, there = 1, True
    try:
        for event in events:
            data = event.json() or {}
            if event.type == "log.chunk":
                writer.write(str(data.get("text", "")))
            elif event.type == "log.attempt" and data.get("number", 1) > shown:
                # a stream that resumes says again where it is
                shown = data["number"]
                writer.finish()
                session.say(f"-- attempt {data['number']} --")
            elif event.type == "log.gap":
                writer.finish()
                session.say(f"-- {format_size(data.get('dropped_bytes', 0))} of output were not kept --")
            elif event.type == "log.removed":
                writer.finish()
                there = False
                session.say(f"-- the output ({format_size(data.get('bytes', 0))}) was removed --")
    finally:
        writer.finish()
    return there


def _follow_json(session: Session, ref: str, query: dict[str, Any]) -> bool:
    there = True
    for event in stream_events(session, ref, query):
        there = there and event.type != "log.removed"
        if event.type:
            echo(json.dumps({"event": event.type, "id": event.id, "data": event.json()}))
    return there


def _print(session: Session, ref: str, query: dict[str, Any], raw: bool) -> None:
    """The output as it is now; the daemon hands it out in parts."""
    writer = LogWriter(raw=raw, color=session.color)
    try:
        _write_parts(session, ref, query, writer)
    finally:
        writer.finish()


def _write_parts(session: Session, ref: str, query: dict[str, Any], writer: LogWriter) -> None:
    pieces: list[bytes] = []
    dropped = 0
    until: int | None = None
    while True:
        with session.api.stream(refs.job_path(ref, "log"), query, {"Accept": "text/plain"}) as response:
            part = 0
            for piece in session.api.pieces(response):
                part += len(piece)
                if session.json:
                    pieces.append(piece)
                else:
                    writer.write(piece)
            headers = response.headers
        attempt = int(headers.get("X-Log-Attempt") or 0)
        next_offset = int(headers.get("X-Log-Next-Offset") or 0)
        dropped += int(headers.get("X-Log-Dropped") or 0)
        # what is written meanwhile is left to --follow: else this might never end
        until = int(headers.get("X-Log-Size") or 0) if until is None else until
        if not part or next_offset >= until:
            break
        query = {"attempt": attempt, "offset": next_offset}
    if session.json:
        session.emit(
            {
                "ref": ref,
                "attempt": attempt,
                "size_bytes": until,
                "next_offset": next_offset,
                "dropped_bytes": dropped,
                "text": b"".join(pieces).decode("utf-8", "replace"),
            }
        )
