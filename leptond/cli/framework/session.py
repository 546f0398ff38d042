"""What the commands share: the connection, messages, JSON, and what a failure becomes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leptond.cli.framework.terminal import clean, echo

if TYPE_CHECKING:
    from leptond.client.errors import ClientError
    from leptond.client.transport import Transport


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
            from leptond.client.transport import Transport

            self._transport = Transport.find(self.host, trace=self.say if self.verbose else None)
        return self._transport

    def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._transport is not None:
            self._transport.close()

    def run(self, work: Callable[[], Any]) -> int:
        """Does `work`; the exit code. What fails becomes a message."""
        # imported here: an entry point that only prints help needs no HTTP
        from leptond.client.errors import ClientError

        try:
            work()
        except ClientError as error:
            self.report(error)
            return error.exit_code
        except KeyboardInterrupt:
            echo(err=True)
            return 130
        finally:
            self.close()
        return 0

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
        echo(clean(message, keep="\n"), err=True)

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
        echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None))

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


def confirm(session: Session, question: str) -> None:
    """Asks a person, and leaves with 1 without a yes."""
    import click

    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort:
        session.say("Aborted!")
        leave(1)


def leave(code: int) -> None:
    """Ends the command with an exit code."""
    if code:
        sys.exit(code)
