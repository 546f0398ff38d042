"""`leptonctl run`: a job in the foreground. The job belongs to the daemon, so it outlives this command."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import termios
from collections.abc import Iterator
from time import sleep
from typing import Any

from leptond.base.usage import UsageError
from leptond.cli.commands.logs import show_events, stream_events
from leptond.cli.commands.submit import (
    MORE_HELP,
    job_options,
    job_spec,
    partition_hint,
    send,
    with_directives,
)
from leptond.cli.commands.wait import DEPENDENCY_POLL_S, wait_for_all
from leptond.cli.framework import refs
from leptond.cli.framework.declare import command, option
from leptond.cli.framework.session import Session, leave
from leptond.cli.text import phrases
from leptond.cli.text.log_text import LogWriter
from leptond.client.server_events import ServerEvent

SECOND_CHANCE_S = 2.0
EXIT_INTERRUPTED = 130


@command("run", interspersed=False, expand=with_directives, help=f"""
    Queue a command, show its output as it comes, and leave with its exit code.

    Ctrl-C lets go of the job, which goes on; Ctrl-C again within two seconds cancels it. With --json the
    output goes to standard error, and the ended job to standard output.

    A job reads nothing from here: its standard input is empty. Give it a file by name, as in
    leptonctl run --shell 'sort < data.txt'.
{MORE_HELP}""", short_help="Queue a command, show its output and leave with its exit code.")  # fmt: skip
@job_options
@option("--raw", is_flag=True, help="Print every byte as the job wrote it.")
def run_command(session: Session, raw: bool, **given: Any) -> None:
    if given["array"] is not None:
        raise UsageError("run shows one job; queue an array with: leptonctl submit --array")
    body = job_spec(session, given)
    with partition_hint(given):
        answer = send(session, body)
    ref = str(answer["id"])
    session.say(f"job {ref} ({answer['name']}) is queued")
    told = _tell_of_input(session)
    writer = LogWriter(raw=raw, color=session.color, to_stderr=session.json)
    try:
        depends = given["after"] or given["after_any"] or given["after_fail"]
        if not depends or _comes_up(session, ref):
            show_events(session, _watched(session, ref), raw=raw, writer=writer)
        job = wait_for_all(session, [ref])[0]
    except KeyboardInterrupt:
        _let_go(session, ref)
        leave(EXIT_INTERRUPTED)
        return
    if not told:
        _tell_of_input(session)  # what came later through the pipe
    if session.json:
        session.emit(job)
    leave(phrases.exit_code_for(job))


def _tell_of_input(session: Session) -> bool:
    """Say that what waits at standard input does not reach the job; True if there was something to say."""
    if not waits_at(0):
        return False
    session.warn(
        "standard input is not passed on: a job's input is empty; give it a file by name, as in:"
        " leptonctl run --shell 'sort < data.txt'"
    )
    return True


def waits_at(fd: int) -> bool:
    """Return True if a pipe, a socket or a file has bytes that nobody has read yet."""
    try:
        seen = os.fstat(fd)
        if stat.S_ISREG(seen.st_mode):
            return os.lseek(fd, 0, os.SEEK_CUR) < seen.st_size
        if not (stat.S_ISFIFO(seen.st_mode) or stat.S_ISSOCK(seen.st_mode)):
            return False
        waiting = fcntl.ioctl(fd, termios.FIONREAD, bytes(4))
    except OSError:
        return False
    return int.from_bytes(waiting, sys.byteorder) > 0


def _watched(session: Session, ref: str) -> Iterator[ServerEvent]:
    """The job's output; while there is none, says why it waits."""
    started = False
    said = ""
    for event in stream_events(session, ref, {}):
        if event.type.startswith("log."):
            started = True
        elif not event.type and not started:
            # a sign of life from a daemon that has nothing to show
            job = session.api.get(refs.job_path(ref))
            if job["state"] == "pending" and phrases.reason_of(job) != said:
                said = phrases.reason_of(job)
                session.say(f"job {ref} waits: {said}")
        yield event


def _comes_up(session: Session, ref: str) -> bool:
    """Wait for the jobs that this one depends on; False when it can never start."""
    job = session.api.get(refs.job_path(ref))
    while job["state"] == "pending" and job.get("reason") == "Dependency":
        job = session.api.wait_job(ref, DEPENDENCY_POLL_S)
    return not phrases.never_starts(job)


def _let_go(session: Session, ref: str) -> None:
    """Once: leave the job alone. Twice: cancel it."""
    session.say(f"\njob {ref} goes on. Its output: leptonctl logs -f {ref}")
    session.say(f"Ctrl-C again now cancels it; later: leptonctl cancel {ref}")
    try:
        sleep(SECOND_CHANCE_S)
    except KeyboardInterrupt:
        session.api.close()  # the interrupt may have hit it in the middle of an exchange
        session.api.post(refs.job_path(ref, "cancel"))
        session.say(f"\njob {ref} is being cancelled")
