"""Which jobs are meant: ``47``, ``47_3``, ``47_*``, ``47.2`` (attempt 2), a name that only one job has,
or ``@last``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from leptond.cli.session import Session
from leptond.client import EXIT_NOT_FOUND, EXIT_REFUSED, ClientError

_REF = re.compile(r"^([0-9]{1,18})(?:_([0-9]{1,9}|\*))?$", re.ASCII)
_ATTEMPT = re.compile(r"^([0-9]{1,18}(?:_[0-9]{1,9})?)\.([0-9]{1,9})$", re.ASCII)


def me() -> str:
    """The name of the calling user, as the daemon sees it (by uid)."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def job_path(ref: str, action: str = "") -> str:
    """The path of a job in the API."""
    return f"/v1/jobs/{quote(ref, safe='')}" + (f"/{action}" if action else "")


def is_ref(text: str) -> bool:
    """Whether `text` names jobs by number."""
    return _REF.match(text) is not None


def one(session: Session, text: str) -> str:
    """The ref of exactly one job. Raises ClientError."""
    ref, attempt = one_with_attempt(session, text)
    if attempt is not None:
        raise _mistake(f"{text!r} is an attempt; this takes a whole job", f"say {ref}", EXIT_REFUSED)
    return ref


def one_with_attempt(session: Session, text: str) -> tuple[str, int | None]:
    """The ref of one job, and the attempt if one is named (``47.2``). Raises ClientError."""
    attempt = _ATTEMPT.match(text)
    if attempt is not None:
        return attempt[1], int(attempt[2])
    match = _REF.match(text)
    if match is not None and match[2] == "*":
        raise _mistake(f"{text} is a whole array; this takes one job", f"say {match[1]}_0", EXIT_REFUSED)
    return (text if match is not None else _by_name(session, text)), None


def expand(session: Session, texts: Iterable[str]) -> list[str]:
    """The refs of all the jobs that are meant, once each. ``47_*`` becomes its members. Raises
    ClientError."""
    refs: list[str] = []
    for text in texts:
        match = _REF.match(text)
        if match is None or match[2] != "*":
            refs.append(one(session, text))
            continue
        members = session.api.pages("/v1/jobs", {"array": match[1]})["items"]
        if not members:
            raise _mistake(f"there is no array {match[1]}", "leptonctl queue lists the jobs", EXIT_NOT_FOUND)
        refs += [job["ref"] for job in sorted(members, key=lambda job: int(job["id"]))]
    return list(dict.fromkeys(refs))


def dependency(session: Session, text: str) -> str:
    """A job to wait for: a ref is passed on as it is, a name is looked up. Raises ClientError."""
    return text if is_ref(text) else one(session, text)


def _by_name(session: Session, text: str) -> str:
    if text == "@last":
        found = _page(session, user=me())
        if not found:
            raise _mistake("you have no jobs yet", "leptonctl submit queues one", EXIT_NOT_FOUND)
        return str(found[0]["ref"])
    found = _page(session, name=text)
    if not found:
        raise _mistake(
            f"there is no job {text!r}", "leptonctl queue and leptonctl history list the jobs", EXIT_NOT_FOUND
        )
    if len(found) > 1:
        several = ", ".join(str(job["ref"]) for job in found) + (", ..." if len(found) > 4 else "")
        raise _mistake(f"several jobs are called {text!r}: {several}", "name one by its number", EXIT_REFUSED)
    return str(found[0]["ref"])


def _page(session: Session, **query: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = session.api.get("/v1/jobs", {**query, "limit": 5})["items"]
    return items


def _mistake(detail: str, hint: str, exit_code: int) -> ClientError:
    title = "Not found" if exit_code == EXIT_NOT_FOUND else "Not one job"
    problem = {"type": "/problems/not-found" if exit_code == EXIT_NOT_FOUND else "/problems/ambiguous"}
    return ClientError({**problem, "title": title, "status": 0, "detail": detail, "hint": hint}, exit_code=exit_code)
