"""`leptonctl top`: GPUs, queue and the output of a job, live on the whole terminal."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import Any

import click

from leptond.cli.framework.click_bridge import command
from leptond.cli.framework.session import Session, leave
from leptond.cli.text import phrases
from leptond.cli.text.screen import shown_lines
from leptond.cli.text.top_view import Picture, draw
from leptond.core.jobs.states import UNFINISHED

LOG_LINES = 200
LOG_BYTES = 65536
NOTHING_THERE = 416
"""The status of an answer about the end of an empty output."""
KEYS = {"\x1b[A": "k", "\x1b[B": "j", "\x1bOA": "k", "\x1bOB": "j", "\x1b[5~": "K", "\x1b[6~": "J"}


@command("top", short_help="GPUs, queue and output, live.")
@click.option("-d", "--delay", type=click.FloatRange(0.2, 60), default=1.0, help="Seconds a picture [1].")
def top_command(session: Session, delay: float) -> None:
    """Show the GPUs with their last hour, the queue, and the output of the selected job, live.

    Keys: up/down (or k/j) select, c twice cancels, h holds or releases, + and - change the priority,
    f follows the output on the whole screen, q leaves.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        session.warn("top needs a terminal; in a pipe use `leptonctl status`")
        leave(2)
        return
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console = Console(no_color=not session.color, highlight=False)
    picture = Picture()
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:

        def show() -> None:
            width, height = console.size
            lines = (Text.assemble(*line, no_wrap=True) for line in draw(picture, width, height))
            live.update(Group(*lines), refresh=True)

        due = 0.0
        while True:
            if time.monotonic() >= due:
                _look(session, picture)
                due = time.monotonic() + delay
            show()
            for key in pressed(max(0.0, due - time.monotonic())):
                if key in ("q", "\x03"):
                    return
                if _press(session, picture, key):
                    due = 0.0


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """Key by key, without echo; the terminal is put back as it was."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)

    def pressed(wait_s: float) -> list[str]:
        ready, _, _ = select.select([fd], [], [], wait_s)
        if not ready:
            return []
        text = os.read(fd, 256).decode("utf-8", "ignore")
        if not text:
            return ["q"]  # the terminal is gone
        for sequence, key in KEYS.items():
            text = text.replace(sequence, key)
        return [key for key in text if key != "\x1b"]

    try:
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _look(session: Session, picture: Picture) -> None:
    """Fetch the screen's data. A daemon that is away makes the picture stale; the program goes on."""
    from leptond.client.errors import ClientError
    from leptond.client.target import Interrupted, Unreachable

    try:
        status = _get(session, "/v1/status").json()
        wanted = {"state": phrases.state_filter(UNFINISHED), "order": "queue", "limit": 200}
        queue = _get(session, "/v1/jobs", wanted).json()["items"]
        history = _get(session, "/v1/gpus/history").json()["items"]
        picture.status, picture.queue, picture.stale = status, queue, ""
        picture.history = {
            one["uuid"]: [minute["utilization"] for minute in one["minutes"]] for one in history
        }
        if picture.job() is None:
            picture.selected = queue[0]["id"] if queue else None
        _look_at_log(session, picture)
    except (Unreachable, Interrupted):
        picture.stale = "the daemon does not answer; trying again"
    except ClientError as error:
        picture.note = str(error)


def _get(
    session: Session, path: str, query: dict[str, Any] | None = None, headers: dict[str, str] | None = None
) -> Any:
    """One try: the next picture is the next one."""
    return session.api.request("GET", path, query=query, headers=headers, patience_s=0.0)


def _look_at_log(session: Session, picture: Picture) -> None:
    """Fetch the end of the job's output, however long its last line is. Raises ClientError."""
    from leptond.client.errors import ClientError

    job = picture.job()
    if job is None or not job["attempt"]:
        picture.log = ["it has not started yet"] if job is not None else []
        return
    try:
        reply = _get(session, f"/v1/jobs/{job['id']}/log", headers={"Range": f"bytes=-{LOG_BYTES}"})
    except ClientError as error:
        if error.status != NOTHING_THERE:
            raise
        picture.log = []
        return
    lines = shown_lines(reply.body.decode("utf-8", "replace"))
    if len(lines) > 1 and not str(reply.headers.get("Content-Range") or "").startswith("bytes 0-"):
        del lines[0]  # its beginning was left out
    picture.log = lines[-LOG_LINES:]


def _press(session: Session, picture: Picture, key: str) -> bool:
    """Carry out a key; True if the screen is to be fetched again at once."""
    from leptond.client.errors import ClientError

    picture.note = ""
    moves = {"j": 1, "k": -1, "J": 10, "K": -10}
    if key in moves:
        picture.move(moves[key])
        return True
    if key == "f":
        picture.following = not picture.following
        return False
    job = picture.job()
    if job is None or key not in "ch+-=":
        picture.armed = None
        return False
    at = f"/v1/jobs/{job['id']}"
    try:
        if key == "c":
            if picture.armed != job["id"]:
                picture.armed = job["id"]
                picture.note = f"c once more cancels job {job['ref']} ({job['name']})"
                return False
            session.api.post(f"{at}/cancel", {})
            picture.note = f"job {job['ref']} is being cancelled"
        elif key == "h":
            session.api.post(f"{at}/{'release' if job['held'] else 'hold'}")
            picture.note = f"job {job['ref']} is {'released' if job['held'] else 'held'}"
        else:
            priority = job["priority"] + (-1 if key == "-" else 1)
            session.api.request("PATCH", at, body={"priority": priority})
            picture.note = f"job {job['ref']} has priority {priority}"
    except ClientError as error:
        picture.note = f"{error}. {error.hint}" if error.hint else str(error)
    picture.armed = None
    return True
