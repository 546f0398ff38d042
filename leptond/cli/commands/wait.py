"""`leptonctl wait`: block until jobs have ended, and leave with their exit code."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from leptond.cli.framework import refs
from leptond.cli.framework.declare import argument, command, option
from leptond.cli.framework.params import JOB, SECONDS
from leptond.cli.framework.session import Session, leave
from leptond.cli.framework.terminal import echo
from leptond.cli.text import phrases
from leptond.core.jobs.states import TERMINAL, UNFINISHED

EXIT_TIMEOUT = 75

_POLL_S = 30.0
DEPENDENCY_POLL_S = 3.0


class OutOfTime(Exception):
    """`--timeout` ran out."""


@command("wait", short_help="Wait for jobs to end; leave with their exit code.")
@argument("jobs", nargs=-1, required=True, type=JOB)
@option("--any", "any_of_them", is_flag=True, help="Until the first of them has ended.")
@option("--timeout", type=SECONDS, help="At most this long (seconds, or 10m); then leave with 75.")
def wait_command(session: Session, jobs: tuple[str, ...], any_of_them: bool, timeout: float | None) -> None:
    """Wait until all JOBS have ended.

    Leaves with 0 when all succeeded, else with the code of the first that did not, in the order given:
    the job's own exit code, 128+N after signal N, 124 for its time limit, 130 when it was cancelled.
    """
    wanted = refs.expand(session, jobs, whole=not any_of_them)
    give_up_at = None if timeout is None else time.monotonic() + timeout
    try:
        if any_of_them:
            ended = [wait_for_any(session, wanted, give_up_at)]
        else:
            ended = wait_for_all(session, wanted, give_up_at)
    except OutOfTime:
        session.warn("the time for waiting ran out; the jobs go on")
        if session.json:
            found = [session.api.get(refs.job_path(ref)) for ref in wanted]
            session.emit(found[0] if len(found) == 1 else found)
        leave(EXIT_TIMEOUT)
        return
    if session.json:
        session.emit(ended[0] if len(wanted) == 1 or any_of_them else ended)
    elif any_of_them:
        echo(ended[0]["ref"])
    leave(next((code for code in map(_code_for, ended) if code), 0))


def wait_for_all(
    session: Session, wanted: Sequence[str], give_up_at: float | None = None
) -> list[dict[str, Any]]:
    """The jobs `wanted` once all have ended (or can never start), in that order. Says what failed.
    `give_up_at` is a time.monotonic(). Raises OutOfTime, ClientError."""
    return [
        _wait_for_array(session, ref, give_up_at)
        if refs.is_whole(ref)
        else _wait_for(session, ref, give_up_at)
        for ref in wanted
    ]


def _wait_for_array(session: Session, ref: str, give_up_at: float | None) -> dict[str, Any]:
    """A whole array once all its members have ended (or can never start), with the first that failed."""
    while True:
        wait_s = _POLL_S
        if give_up_at is not None:
            wait_s = max(0.0, min(wait_s, give_up_at - time.monotonic()))
        array: dict[str, Any] = session.api.wait_job(ref, wait_s)
        open_ones = sum(array["counts"].get(state, 0) for state in UNFINISHED)
        if open_ones <= array["never_start"]:
            break
        if give_up_at is not None and time.monotonic() >= give_up_at:
            raise OutOfTime
    failed = array.get("first_failed")
    if failed is not None:
        array["failed"] = session.api.get(refs.job_path(failed))
        _say_end(session, array["failed"])
    if open_ones:
        session.warn(f"{open_ones:,} jobs of array {array['id']} can never start")
    return array


def _code_for(ended: dict[str, Any]) -> int:
    """The exit code for a job or for a whole array."""
    if "counts" not in ended:
        return phrases.exit_code_for(ended)
    return phrases.exit_code_for(ended["failed"]) if "failed" in ended else int(ended["never_start"] > 0)


def _wait_for(session: Session, ref: str, give_up_at: float | None) -> dict[str, Any]:
    job: dict[str, Any] = session.api.get(refs.job_path(ref))
    while not _is_over(job):
        # the daemon answers as soon as it ends; a job behind others may also become unable to start
        wait_s = DEPENDENCY_POLL_S if job.get("reason") == "Dependency" else _POLL_S
        if give_up_at is not None:
            wait_s = min(wait_s, give_up_at - time.monotonic())
            if wait_s <= 0:
                raise OutOfTime
        job = session.api.wait_job(ref, wait_s)
    _say_end(session, job)
    return job


def wait_for_any(session: Session, wanted: Sequence[str], give_up_at: float | None = None) -> dict[str, Any]:
    """The first of the jobs that has ended. Raises OutOfTime, ClientError."""
    while True:
        for position, ref in enumerate(wanted):
            # each round asks about all, and lingers a moment at the last
            linger = position == len(wanted) - 1
            wait_s = 1.0 if linger else 0.0
            if give_up_at is not None and linger:
                wait_s = min(wait_s, max(0.0, give_up_at - time.monotonic()))
            job: dict[str, Any] = session.api.wait_job(ref, wait_s)
            if _is_over(job):
                _say_end(session, job)
                return job
        if give_up_at is not None and time.monotonic() >= give_up_at:
            raise OutOfTime


def _is_over(job: dict[str, Any]) -> bool:
    return job["state"] in TERMINAL or phrases.never_starts(job)


def _say_end(session: Session, job: dict[str, Any]) -> None:
    if job["state"] != "succeeded":
        session.warn(phrases.verdict(job))
