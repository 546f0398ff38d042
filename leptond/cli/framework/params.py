"""The kinds of values that options and arguments take."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable

from leptond.core.jobs import timespec

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

COMPLETION_TIMEOUT_S = 2.0


class Parsed:
    """A value that a function makes of the text; its ValueError is a usage error."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def __call__(self, text: str) -> Any:
        return self._parse(text)


class Whole:
    """A whole number within bounds."""

    def __init__(self, least: int, most: int | None = None) -> None:
        self.least = least
        self.most = most

    def __call__(self, text: str) -> int:
        number = int(text)
        if number < self.least or (self.most is not None and number > self.most):
            raise ValueError(f"{number} is not in the range from {self.least} to {self.most}")
        return number


def gpu_indices(text: str) -> list[int]:
    """GPUs by index, one by one or as a list: ``0``, ``GPU0``, ``0,2``, ``0-3``. Raises ValueError."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(?i:gpu ?)?([0-9]{1,4})(?:-(?i:gpu ?)?([0-9]{1,4}))?", part.strip(), re.ASCII)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"{part!r} is no GPU; say its index, as in 0, 0,2 or 0-3 (leptonctl gpus)")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return found


def _limit(text: str) -> float:
    seconds = timespec.parse_duration(text, bare_s=timespec.MINUTE)
    if seconds <= 0:
        raise ValueError("a time limit must be over 0")
    return seconds


def _now() -> datetime:
    from datetime import UTC, datetime

    return datetime.now(UTC)


def _rfc3339(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


LIMIT = Parsed("time", _limit)
GPUS = Parsed("gpus", gpu_indices)
SECONDS = Parsed("duration", lambda text: timespec.parse_duration(text, bare_s=1.0))
SIZE = Parsed("size", timespec.parse_size)
SIGNAL = Parsed("signal@time", timespec.parse_signal)
BEGIN = Parsed("time", lambda text: _rfc3339(timespec.parse_begin(text, now=_now())))
SINCE = Parsed("time", lambda text: _rfc3339(timespec.parse_since(text, now=_now())))


def commas(values: tuple[str, ...]) -> list[str]:
    """The parts of repeatable options that also take comma lists, in order."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


JOB = Parsed("job", str)
"""A job as it is named on the command line; completes with :func:`jobs_like`."""


def jobs_like(host: str | None, beginning: str) -> list[tuple[str, str]]:
    """The jobs whose number or name begins so, each with its name and state; of the newest hundred. A name
    that several of them have names no job. None at all when the daemon does not answer: a shell that
    completes must neither hang nor print errors."""
    from leptond.cli.framework.terminal import clean
    from leptond.client.errors import ClientError
    from leptond.client.transport import Transport

    with contextlib.suppress(ClientError, KeyError, TypeError):
        with contextlib.closing(Transport.find(host, timeout_s=COMPLETION_TIMEOUT_S)) as api:
            jobs = api.request("GET", "/v1/jobs", query={"limit": 100}, patience_s=0).json()["items"]
        found = [
            (job["ref"], clean(f"{job['name']} {job['state']}"))
            for job in jobs
            if job["ref"].startswith(beginning)
        ]
        if jobs and "@last".startswith(beginning):
            found.append(("@last", "your newest job"))
        names = [job["name"] for job in jobs]
        found += [
            (job["name"], clean(f"{job['ref']} {job['state']}"))
            for job in jobs
            if beginning and job["name"].startswith(beginning) and names.count(job["name"]) == 1
        ]
        return found
    return []
