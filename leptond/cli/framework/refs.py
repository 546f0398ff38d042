"""Which jobs are meant: ``47``, ``47_3``, ``47_*``, ``47.2`` (attempt 2), lists and ranges (``60,61``,
``60-65``, ``47_0-9``), a name, or ``@last``.

Where several jobs can be named, the number of an array means all of it, as in Slurm, and so do its name and
``@last``; where one job is named, and in ranges, it is the array's first member, whose id it is. Of several
jobs with one name the newest is meant where something is shown, and the only one that has not ended where
something is changed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from leptond.cli.framework.session import Session
from leptond.client.errors import EXIT_NOT_FOUND, EXIT_REFUSED, ApiError, ClientError
from leptond.core.jobs.states import UNFINISHED, State

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any, Literal

    SameName = Literal["only", "newest", "unfinished"]
    """Which of several jobs with one name is meant: none of them, the newest, or the only one that has not
    ended."""

_REF = re.compile(r"^([0-9]{1,18})(?:_([0-9]{1,9}|\*))?\Z", re.ASCII)
_ATTEMPT = re.compile(r"^([0-9]{1,18}(?:_[0-9]{1,9})?)\.([0-9]{1,9})\Z", re.ASCII)
_RANGE = re.compile(r"^([0-9]{1,18}_)?\[?([0-9]{1,18})-([0-9]{1,18})\]?\Z", re.ASCII)

MOST = 10_000
"""Most jobs of a range."""


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


def one(session: Session, text: str, *, same_name: SameName = "newest") -> str:
    """The ref of exactly one job. Raises ClientError."""
    ref, attempt = one_with_attempt(session, text, same_name=same_name)
    if attempt is not None:
        raise _mistake(f"{text!r} is an attempt; this takes a whole job", f"say {ref}", EXIT_REFUSED)
    return ref


def one_with_attempt(
    session: Session, text: str, *, same_name: SameName = "newest"
) -> tuple[str, int | None]:
    """The ref of one job, and the attempt if one is named (``47.2``). Raises ClientError."""
    attempt = _ATTEMPT.match(text)
    if attempt is not None:
        return attempt[1], int(attempt[2])
    match = _REF.match(text)
    if match is not None and match[2] == "*":
        raise _mistake(f"{text} is a whole array; this takes one job", f"say {match[1]}_0", EXIT_REFUSED)
    if match is not None:
        return text, None
    job = _by_name(session, text, same_name)
    if job["array_id"] is None:
        return str(job["ref"]), None
    first = session.api.get(job_path(str(job["array_id"])))["ref"]
    session.warn(f"{text} is the array {job['array_id']}; this is its first member, {first}")
    return first, None


def one_or_array(session: Session, text: str) -> tuple[str, int | None]:
    """As :func:`one_with_attempt`; an array that is named by its number, its name or @last is that number."""
    if _REF.match(text) or _ATTEMPT.match(text):
        whole = re.fullmatch(r"([0-9]{1,18})_\*", text)
        return (whole[1], None) if whole else one_with_attempt(session, text)
    job = _by_name(session, text, "newest")
    return (str(job["ref"]) if job["array_id"] is None else str(job["array_id"])), None


def expand(
    session: Session,
    texts: Iterable[str],
    *,
    whole: bool = False,
    same_name: SameName = "newest",
    most: int = MANY,
) -> list[str]:
    """The refs of all the jobs that are meant, once each. An array becomes its members; with `whole` one of
    more than `most` stays ``47_*``. Raises ClientError."""
    refs: list[str] = []
    for text, of_range in _spread(session, texts):
        match = _REF.match(text)
        if of_range:
            refs.append(text)
            continue
        if match is None and not _ATTEMPT.match(text):
            job = _by_name(session, text, same_name)
            array = job["array_id"]
            if array is None:
                refs.append(str(job["ref"]))
                continue
            array = str(array)
        elif match is None or (match[2] != "*" and not _is_array(session, match)):
            refs.append(one(session, text))
            continue
        else:
            array = match[1]
        if whole and _members(session, array) > most:
            refs.append(f"{array}_*")
            continue
        members = session.api.pages("/v1/jobs", {"array": array})["items"]
        if not members:
            raise _mistake(f"there is no array {array}", "leptonctl queue lists the jobs", EXIT_NOT_FOUND)
        refs += [job["ref"] for job in sorted(members, key=lambda job: int(job["id"]))]
    return list(dict.fromkeys(refs))


def _spread(session: Session, texts: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """The parts of comma lists, and the jobs of ranges (True; names have no commas). Raises ClientError."""
    for text in texts:
        for part in text.split(","):
            match = _RANGE.match(part)
            if match is None or int(match[3]) < int(match[2]):
                if part:
                    yield part, False
                continue
            first, last = int(match[2]), int(match[3])
            if last - first >= MOST:
                raise _mistake(f"{part} is more than {MOST:,} jobs", "say less at once", EXIT_REFUSED)
            named = _page(session, name=part) if match[1] is None else []
            if named:
                detail = f"{part} is a range of jobs, and the name of job {named[0]['ref']}"
                hint = "name that one by its number, or write the range as a list"
                raise _mistake(detail, hint, EXIT_REFUSED)
            yield from ((f"{match[1] or ''}{number}", True) for number in range(first, last + 1))


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


def awaited(session: Session, text: str) -> list[str]:
    """The refs of jobs, or of whole arrays (``47_*``), to wait for. Raises ClientError."""
    found = []
    for part, of_range in _spread(session, [text]):
        match = _REF.match(part)
        if match is not None:
            array = not of_range and _is_array(session, match)
            found.append(f"{part}_*" if array else part)
        elif _ATTEMPT.match(part):
            found.append(one(session, part))
        else:
            job = _by_name(session, part, "newest")
            found.append(str(job["ref"]) if job["array_id"] is None else f"{job['array_id']}_*")
    return found


def _by_name(session: Session, text: str, same_name: SameName) -> dict[str, Any]:
    """The job that a name or @last means; of an array any member. Raises ClientError."""
    if text == "@last":
        found = _page(session, user=me())
        if not found:
            raise _mistake("you have no jobs yet", "leptonctl submit queues one", EXIT_NOT_FOUND)
        return found[0]
    found = _page(session, name=text)
    if not found:
        raise _mistake(
            f"there is no job {text!r}", "leptonctl queue and leptonctl history list the jobs", EXIT_NOT_FOUND
        )
    if _is_one(found):
        return found[0]
    several = f"several jobs are called {text!r}"
    if same_name == "newest":
        session.warn(f"{several}; this is the newest, {_called(found[0])}")
        return found[0]
    if same_name == "unfinished":
        states = ",".join(state for state in State if state in UNFINISHED)
        left = _page(session, name=text, state=states)
        if not left:
            return found[0]
        if _is_one(left):
            session.warn(f"{several}; this is the only one that has not ended, {_called(left[0])}")
            return left[0]
        found, several = left, f"several jobs called {text!r} have not ended"
    names = list(dict.fromkeys(map(_called, found)))
    more = ", ..." if len(found) > 4 else ""
    raise _mistake(
        f"{several}: {', '.join(names)}{more}", "name one by its number, or all with --name", EXIT_REFUSED
    )


def _is_one(found: list[dict[str, Any]]) -> bool:
    """Return True if jobs are one, or members of one array."""
    return len(found) == 1 or len({job["array_id"] or -job["id"] for job in found}) == 1


def _called(job: dict[str, Any]) -> str:
    return str(job["ref"] if job["array_id"] is None else job["array_id"])


def _page(session: Session, **query: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = session.api.get("/v1/jobs", {**query, "limit": 5})["items"]
    return items


def _mistake(detail: str, hint: str, exit_code: int) -> ClientError:
    title = "Not found" if exit_code == EXIT_NOT_FOUND else "Not one job"
    problem = {"type": "/problems/not-found" if exit_code == EXIT_NOT_FOUND else "/problems/ambiguous"}
    return ClientError(
        {**problem, "title": title, "status": 0, "detail": detail, "hint": hint}, exit_code=exit_code
    )
