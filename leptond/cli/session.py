"""What the commands share: the options that every command takes, the connection, messages and JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from leptond.cli.output import clean

if TYPE_CHECKING:
    from leptond.client import ClientError, Transport

F = TypeVar("F", bound=Callable[..., Any])


class Session:
    """One call of leptonctl."""

    def __init__(self) -> None:
        self.host: str | None = None
        self.json = False
        self.no_color = False
        self.verbose = False
        self._transport: Transport | None = None

    @property
    def api(self) -> Transport:
        """The connection to the daemon, found when it is first needed. Raises ClientError."""
        if self._transport is None:
            from leptond.client import Transport

            self._transport = Transport.find(self.host, trace=self.say if self.verbose else None)
        return self._transport

    def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._transport is not None:
            self._transport.close()

    @property
    def table(self) -> bool:
        """Whether a person looks at standard output."""
        return not self.json and sys.stdout.isatty()

    @property
    def color(self) -> bool:
        """Whether to colour standard output (no-color.org: NO_COLOR counts when it is not empty)."""
        if self.no_color or os.environ.get("NO_COLOR"):
            return False
        return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))

    def say(self, message: str) -> None:
        """A message for people: to standard error, so that data stays alone on standard output."""
        click.echo(clean(message, keep="\n"), err=True)

    def warn(self, message: str) -> None:
        """A message that says who speaks."""
        self.say(f"leptonctl: {message}")

    def lost(self, error: ClientError) -> None:
        """A stream broke off, and comes back by itself."""
        self.warn("the connection to leptond was lost; this goes on when it is back")
        if self.verbose:
            self.say(f"  {error}")

    def emit(self, value: Any) -> None:
        """An API object as JSON: indented on a terminal, else one line. Only ASCII is written, so that a
        job's name cannot steer the terminal."""
        click.echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None))

    def report(self, error: ClientError) -> None:
        """What failed, why, and what to do next; with --json also the problem body."""
        if self.json:
            self.emit(error.problem)
        self.warn(str(error))
        for part in error.problem.get("errors") or []:
            if isinstance(part, dict) and part.get("message") != str(error):
                self.say(f"  {part.get('pointer')}: {part.get('message')}")
        if error.hint:
            self.say(f"  {error.hint}")


def _set(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def remember(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        # only ever switched on: `leptonctl --json show 3` and `leptonctl show --json 3` are the same
        if value:
            setattr(ctx.ensure_object(Session), name, value)
        return value

    return remember


def shared_options(*, hidden: bool) -> Callable[[F], F]:
    """The global options, for the group and for each command (there mostly out of sight)."""

    def add(function: F) -> F:
        for names, attribute, settings in (
            (("-v", "--verbose"), "verbose", {"is_flag": True, "help": "Show the requests."}),
            (("--no-color",), "no_color", {"is_flag": True, "help": "No colours (as NO_COLOR)."}),
            (("--host",), "host", {"metavar": "URL", "help": "unix:///path or http://host:port."}),
            (("--json",), "json", {"is_flag": True, "help": "Print the API's JSON object, also on errors."}),
        ):
            function = click.option(
                *names,
                f"shared_{attribute}",
                expose_value=False,
                hidden=hidden and attribute != "json",
                callback=_set(attribute),
                **settings,
            )(function)
        return function

    return add


def command(name: str, **attrs: Any) -> Callable[[Callable[..., None]], click.Command]:
    """A command that is handed the Session first and takes the shared options."""

    def wrap(function: Callable[..., None]) -> click.Command:
        settings = {"help_option_names": ["-h", "--help"], **attrs.pop("context_settings", {})}
        make: Any = click.command(name, context_settings=settings, **attrs)
        made: click.Command = make(click.pass_obj(shared_options(hidden=True)(function)))
        return made

    return wrap


class Verbs(click.Group):
    """Commands of one noun; the noun alone lists."""

    def invoke(self, ctx: click.Context) -> Any:
        ctx.ensure_object(Session)
        return super().invoke(ctx)


def leave(code: int) -> None:
    """Ends the command with an exit code."""
    if code:
        raise click.exceptions.Exit(code)
