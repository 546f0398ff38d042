"""Sets of jobs on the command line: all, one's own, or those that fulfil filters, changed in one request."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from leptond.base.usage import UsageError
from leptond.cli.commands.job_fields import filter_options
from leptond.cli.framework import refs
from leptond.cli.framework.declare import F, option
from leptond.cli.framework.session import Session, confirm, leave
from leptond.cli.framework.terminal import echo
from leptond.client.errors import EXIT_FORBIDDEN, ApiError
from leptond.core.jobs.fields import FILTERS

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any

MANY = 20
"""More jobs than this that are named by their numbers are changed in one request."""


def set_options(everything: str, mine: str) -> Callable[[F], F]:
    """The options that choose a set, with the help of ``--all`` and ``--mine``."""
    added = (
        option("--all", "everything", is_flag=True, help=everything),
        option("--mine", is_flag=True, help=mine),
        filter_options,
        option("--state", metavar="STATES", help="Only those in these states (comma list)."),
        option("--label", metavar="K=V", help="Only those with this label."),
        option("--never", is_flag=True, help="Only those that can never start."),
        option("-y", "--yes", is_flag=True, help="Do not ask."),
    )

    def add(function: F) -> F:
        for one in reversed(added):
            function = one(function)
        return function

    return add


def chosen(jobs: Sequence[str], given: dict[str, Any]) -> dict[str, Any] | None:
    """The body of the set that the options choose; None when jobs are named. Takes the options out of
    `given`. Raises UsageError."""
    everything, mine = given.pop("everything"), given.pop("mine")
    body: dict[str, Any] = {"all": everything, "never": given.pop("never")}
    for name in (*(field.name for field in FILTERS), "state", "label"):
        body[name] = given.pop(name)
    if mine:
        if body["user"] is not None:
            raise UsageError("--mine and --user are one too many")
        body["user"] = refs.me()
    body = {name: value for name, value in body.items() if value not in (None, False)}
    if bool(jobs) == bool(body):
        raise UsageError("name jobs, or say --mine, --all or another filter")
    return None if jobs else body


def change(
    session: Session,
    verb: str,
    body: Mapping[str, Any],
    *,
    done: str,
    yes: bool,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Change a set in one request, and say what was done: `done` is its word (\"cancelled\"). Asks first on a
    terminal, unless `yes`."""
    if sys.stdin.isatty() and not yes:
        would = session.api.post(f"/v1/jobs:{verb}", {**body, "dry_run": True})
        count = would["pending"] + would["live"] + would["finished"]
        if not count:
            session.say(_NOTHING[verb])
            return
        confirm(session, f"{verb.capitalize()} {_jobs(count)}{_whose(body)}?")
    answer = session.api.post(f"/v1/jobs:{verb}", {**body, **(more or {})})
    if session.json:
        session.emit(answer)
    else:
        say(session, verb, answer, done)
    leave(EXIT_FORBIDDEN if answer["others"] and "user" not in body else 0)


_NOTHING = {
    "cancel": "Nothing runs or waits.",
    "hold": "Nothing waits.",
    "release": "Nothing waits.",
    "purge": "Nothing has ended.",
}


def say(session: Session, verb: str, answer: Mapping[str, Any], done: str) -> None:
    """Say what a change of a set has done, and what came in meanwhile."""
    if verb == "cancel":
        parts = []
        if answer["pending"]:
            parts.append(f"{_jobs(answer['pending'])} that waited {_be(answer['pending'])} cancelled")
        if answer["live"]:
            parts.append(f"{_jobs(answer['live'])} that ran {_be(answer['live'])} being stopped")
        if parts:
            echo("; ".join(parts))
    elif count := answer["pending"] + answer["finished"]:
        echo(f"{_jobs(count)} {_be(count)} {done}")
    if not (answer["pending"] or answer["live"] or answer["finished"] or answer["refused"]):
        session.say(_NOTHING[verb])
    if answer["others"]:
        session.warn(f"{_jobs(answer['others'])} of others stayed as they are")
    if answer["meanwhile"]:
        named = ", ".join(answer["meanwhile_jobs"])
        named += ", ..." if answer["meanwhile"] > len(answer["meanwhile_jobs"]) else ""
        were = (
            "was submitted meanwhile, and goes on"
            if answer["meanwhile"] == 1
            else ("were submitted meanwhile, and go on")
        )
        session.warn(f"{_jobs(answer['meanwhile'])} {were}: {named}")


def change_named(
    session: Session, verb: str, wanted: Sequence[str], *, done: str, more: Mapping[str, Any] | None = None
) -> None:
    """Change many jobs that are named in one request; the exit code is that of the first refusal."""
    answer = session.api.post(f"/v1/jobs:{verb}", {"jobs": list(wanted), **(more or {})})
    if session.json:
        session.emit(answer)
    else:
        say(session, verb, answer, done)
    code = 0
    for one in answer["refused"]:
        error = ApiError(one)
        code = code or error.exit_code
        hint = f" ({one['hint']})" if one.get("hint") else ""
        who = "" if f"job {one['ref']}" in one["detail"] else f"job {one['ref']}: "
        session.warn(f"{who}{one['detail']}{hint}")
    leave(code)


def _jobs(count: int) -> str:
    return f"{count:,} job{'' if count == 1 else 's'}"


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _whose(body: Mapping[str, Any]) -> str:
    if body.get("user") == refs.me():
        return " of your own"
    return " of everybody" if body.get("all") and "user" not in body else ""
