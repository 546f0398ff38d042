"""Which jobs are meant: ``47``, ``47_3``, ``47_*``, ``47.2`` (attempt 2), a name that only one job has,
or ``@last``.

Where several jobs can be named, the number of an array means all of it, as in Slurm; where one job is
named, it is the array's first member, whose id it is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

from leptond.cli.framework.session import Session
from leptond.client.errors import EXIT_NOT_FOUND, EXIT_REFUSED, ApiError, ClientError

_REF = re.compile(r"^([0-9]{1,18})(?:_([0-9]{1,9}|\*))?\Z", re.ASCII)
_ATTEMPT = re.compile(r"^([0-9]{1,18}(?:_[0-9]{1,9})?)\.([0-9]{1,9})\Z", re.ASCII)


def me() -> str:
    """The name of the calling user, as the daemon sees it (by uid)."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"


MANY = 128
"""Arrays of more members are asked about and changed as a whole."""


def job_path(ref: str, action: str = "") -> str:
    """The path of a job in the API, or that of a whole array (``47_*``)."""
    from urllib.parse import quote

    at = f"/v1/arrays/{ref[:-2]}" if is_whole(ref) else f"/v1/jobs/{quote(ref, safe='')}"
    return at + (f"/{action}" if action else "")


def is_whole(ref: str) -> bool:
    """Return True if a ref names a whole array."""
    return ref.endswith("_*")


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


def expand(session: Session, texts: Iterable[str], *, whole: bool = False) -> list[str]:
    """The refs of all the jobs that are meant, once each. An array becomes its members; with `whole` a large
    one stays ``47_*``. Raises ClientError."""
    refs: list[str] = []
    for text in texts:
        match = _REF.match(text)
        if match is None or (match[2] != "*" and not _is_array(session, match)):
            refs.append(one(session, text))
            continue
        if whole and _members(session, match[1]) > MANY:
            refs.append(f"{match[1]}_*")
            continue
        members = session.api.pages("/v1/jobs", {"array": match[1]})["items"]
        if not members:
            raise _mistake(f"there is no array {match[1]}", "leptonctl queue lists the jobs", EXIT_NOT_FOUND)
        refs += [job["ref"] for job in sorted(members, key=lambda job: int(job["id"]))]
    return list(dict.fromkeys(refs))


def _members(session: Session, array: str) -> int:
    """The number of an array's members; 0 from a daemon before 0.3.0, which cannot say."""
    try:
        return sum(session.api.get(f"/v1/arrays/{array}")["counts"].values())
    except ApiError as error:
        if error.status != 404:
            raise
        return 0


def _is_array(session: Session, match: re.Match[str]) -> bool:
    """Return True if a bare number is that of an array."""
    if match[2] is not None:
        return False
    try:
        job = session.api.get(job_path(match[1]))
    except ApiError as error:
        if error.status != 404:
            raise
        return False  # the request that follows says so, and does not keep other jobs from being reached
    return job.get("array_id") is not None and str(job["array_id"]) == match[1]


def dependency(session: Session, text: str) -> str:
    """The ref of a job, or of a whole array (``47_*``), to wait for. Raises ClientError."""
    match = _REF.match(text)
    if match is None:
        return one(session, text)
    return f"{text}_*" if _is_array(session, match) else text


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
    return ClientError(
        {**problem, "title": title, "status": 0, "detail": detail, "hint": hint}, exit_code=exit_code
    )
