"""`leptonctl events`: the record of what happened."""

from __future__ import annotations

import json
from typing import Any

import click

from leptond.cli.framework import refs
from leptond.cli.framework.click_bridge import command, kind
from leptond.cli.framework.params import JOB
from leptond.cli.framework.session import Session
from leptond.cli.framework.terminal import clean
from leptond.cli.text import phrases

RECENT = 50


@command("events", short_help="What happened, as it was recorded.")
@click.option("-f", "--follow", is_flag=True, help="Go on as it happens.")
@click.option("--since", type=click.IntRange(0), metavar="ID", help="Those after this event.")
@click.option("--job", type=kind(JOB), help="Only those of this job.")
@click.option("-n", "--limit", type=click.IntRange(1), metavar="N", help="At most N; not with -f.")
def events_command(
    session: Session, follow: bool, since: int | None, job: str | None, limit: int | None
) -> None:
    """Print the record of what happened: one event a line, ids only grow.

    Without --since and --job that is the last 50 events. With -f it goes on as things happen, from now on
    or from --since; a lost connection resumes where it broke off. With --json -f every line is one event.
    """
    job_id = None if job is None else session.api.get(refs.job_path(refs.one(session, job)))["id"]
    query = {"since": since, "job": job_id}
    if follow:
        _follow(session, query, job_id)
        return
    newest = since is None and job is None
    if newest:
        query["since"] = max(0, _last_id(session) - (limit or RECENT))
    page = _pages(session, query, limit)
    if session.json:
        session.emit(page)
        return
    for event in page["items"]:
        click.echo(_line(event, table=session.table))
    if page["next_cursor"] is not None and page["items"] and not newest:
        session.say(f"There are more: leptonctl events --since {page['items'][-1]['id']}")


def _last_id(session: Session) -> int:
    """The newest event's id: a stream that begins now says it in its greeting."""
    stream = session.api.follow("/v1/events")
    for event in stream:
        if event.type == "hello":
            stream.close()
            return int(event.json()["last_event_id"])
    return 0


def _pages(session: Session, query: dict[str, Any], limit: int | None) -> dict[str, Any]:
    """All events after `since`, at most `limit`; a page's cursor is the `since` of the next."""
    items: list[dict[str, Any]] = []
    since = query["since"]
    while True:
        size = min(1000, limit - len(items)) if limit is not None else 1000
        page = session.api.get("/v1/events", {**query, "since": since, "limit": size})
        items += page["items"]
        since = page.get("next_cursor")
        if since is None or (limit is not None and len(items) >= limit):
            return {"items": items, "next_cursor": since}


def _follow(session: Session, query: dict[str, Any], job_id: int | None) -> None:
    for received in session.api.follow("/v1/events", query, on_lost=session.lost):
        event = received.json()
        if not isinstance(event, dict) or "id" not in event:
            continue  # a greeting, or a sign of life
        if job_id is not None and event.get("job_id") != job_id:
            continue
        click.echo(json.dumps(event) if session.json else _line(event, table=session.table))


def _line(event: phrases.Body, *, table: bool) -> str:
    data = event.get("data") or {}
    if event["type"] == "job.state":
        shown = f"{data.get('from')} -> {data.get('to')}"
        rest = {key: value for key, value in data.items() if key not in ("from", "to") and value is not None}
    else:
        shown, rest = "", {key: value for key, value in data.items() if value is not None}
    shown = " ".join([shown, *(f"{key}={_short(value)}" for key, value in rest.items())]).strip()
    job = event.get("ref") or event.get("job_id")
    attempt = f".{event['attempt']}" if event.get("attempt") else ""
    at = event["at"]
    if table:
        local = phrases.instant(at)
        at = local.astimezone().strftime("%Y-%m-%d %H:%M:%S") if local is not None else at
        job_text = f"job {job}{attempt}" if job is not None else ""
        return clean(f"{event['id']:>6}  {at}  {event['type']:<14} {job_text:<10} {shown}".rstrip())
    cells = [event["id"], at, event["type"], "-" if job is None else f"{job}{attempt}", shown or "-"]
    return "\t".join(clean(cell) for cell in cells)


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
