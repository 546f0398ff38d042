"""The state that commands share: the connection, messages, JSON, and the report of a failure."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

from leptond.cli.framework.terminal import clean, echo

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from typing import Any

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
        """Close the connection, if there is one."""
        if self._transport is not None:
            self._transport.close()

    def run(self, work: Callable[[], Any]) -> int:
        """Call `work` and return the exit code. A failure becomes a message."""
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
        except BrokenPipeError:
            raise  # the reader of our output has gone
        except OSError as error:
            self.warn(sentence_of(error))
            return EXIT_FAILED
        finally:
            self.close()
        return 0

    @property
    def table(self) -> bool:
        """True if standard output is a terminal and shows tables."""
        return not self.json and sys.stdout.isatty()

    @property
    def color(self) -> bool:
        """True if standard output takes colours (no-color.org: NO_COLOR counts when it is not empty)."""
        if self.no_color or os.environ.get("NO_COLOR"):
            return False
        return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))

    def say(self, message: str) -> None:
        """Print a message for people on standard error, so that standard output holds only data."""
        echo(clean(message, keep="\n"), err=True)

    def warn(self, message: str) -> None:
        """Print a message that begins with the program's name."""
        self.say(f"leptonctl: {message}")

    def lost(self, error: ClientError) -> None:
        """Say that a stream broke off, and that it comes back by itself."""
        self.warn("the connection to leptond was lost; this goes on when it is back")
        if self.verbose:
            self.say(f"  {error}")

    def emit(self, value: Any) -> None:
        """Print an API object as JSON: indented on a terminal, else one line. Only ASCII is written, so that
        a job's name cannot steer the terminal."""
        echo(json.dumps(value, indent=2 if sys.stdout.isatty() else None))

    def report(self, error: ClientError) -> None:
        """Print what failed, why, and what to do next; with --json also the problem body."""
        if self.json:
            self.emit(error.problem)
        faults = [_spoken(part) for part in error.problem.get("errors") or [] if isinstance(part, dict)]
        if len(faults) > 1:
            self.warn(f"the request has {len(faults)} faults")
            for fault in faults:
                self.say(f"  {fault}")
        else:
            alone = bool(faults) and not faults[0].endswith(f": {error}")
            self.warn(faults[0] if alone else str(error))
        if error.hint and not (faults and error.hint.startswith("see /v1/")):
            self.say(f"  {error.hint}")


EXIT_FAILED = 1


def sentence_of(error: OSError) -> str:
    """What the system refused, and of which file.

    >>> sentence_of(PermissionError(13, "Permission denied", "/etc/x"))
    '/etc/x: Permission denied'
    """
    why = error.strerror or str(error)
    return f"{error.filename}: {why}" if error.filename else why


def _spoken(fault: dict[str, Any]) -> str:
    """What is wrong with a field of a request, in the words of the command line: with the option for it."""
    from leptond.core.jobs.fields import OPTIONS

    pointer, message = str(fault.get("pointer")), str(fault.get("message"))
    names = pointer.strip("/").split("/")
    if names[0] == "job":  # of a sweep
        names = names[1:]
    for field, option in OPTIONS:
        if names[:1] == [field.name]:
            said = message.removeprefix("job.")
            rest = said.removeprefix(field.name)
            return f"{option.name}{rest}" if rest != said else f"{option.name}: {message}"
    return message


def usage_problem(detail: str, help_command: str) -> dict[str, Any]:
    """A problem body for a call that is wrong as it is spelled."""
    return {
        "type": "/problems/usage",
        "title": "The call cannot be carried out as it is spelled",
        "status": 0,
        "detail": detail,
        "hint": f"see {help_command}",
    }


def confirm(session: Session, question: str) -> None:
    """Ask for a yes, and leave with exit code 1 without one."""
    import click

    try:
        click.confirm(question, abort=True, err=True)
    except click.Abort:
        session.say("Aborted!")
        leave(1)


def leave(code: int) -> None:
    """End the command with an exit code."""
    if code:
        sys.exit(code)
