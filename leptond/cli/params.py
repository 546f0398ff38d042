"""The kinds of values that options and arguments take."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from leptond.cli.session import Session
from leptond.core import timespec

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    _ParamType = click.ParamType[Any]  # generic since click 8.2
else:
    _ParamType = click.ParamType

COMPLETION_TIMEOUT_S = 2.0


class Parsed(_ParamType):
    """What a function makes of the text; its ValueError is a usage error."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _limit(text: str) -> float:
    seconds = timespec.parse_duration(text, bare_s=timespec.MINUTE)
    if seconds <= 0:
        raise ValueError("a time limit must be over 0")
    return seconds


def _now() -> datetime:
    return datetime.now(UTC)


def _rfc3339(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


LIMIT = Parsed("time", _limit)
SECONDS = Parsed("duration", lambda text: timespec.parse_duration(text, bare_s=1.0))
SIZE = Parsed("size", timespec.parse_size)
SIGNAL = Parsed("signal@time", timespec.parse_signal)
BEGIN = Parsed("time", lambda text: _rfc3339(timespec.parse_begin(text, now=_now())))
SINCE = Parsed("time", lambda text: _rfc3339(timespec.parse_since(text, now=_now())))


def commas(values: tuple[str, ...]) -> list[str]:
    """The parts of repeatable options that also take comma lists, in order."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


class JobArgument(_ParamType):
    """How a job is named on the command line; completes with the ids of jobs, their names and states."""

    name = "job"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from leptond.cli.output import clean
        from leptond.client import ClientError, Transport

        session = ctx.find_object(Session) or Session()
        # a shell that completes must neither hang nor print errors
        with contextlib.suppress(ClientError, KeyError, TypeError):
            api = Transport.find(session.host, timeout_s=COMPLETION_TIMEOUT_S)
            with contextlib.closing(api):
                found = api.request("GET", "/v1/jobs", query={"limit": 100}, patience_s=0).json()
            return [
                CompletionItem(job["ref"], help=clean(f"{job['name']} ({job['state']})"))
                for job in found["items"]
                if job["ref"].startswith(incomplete)
            ]
        return []


JOB = JobArgument()
