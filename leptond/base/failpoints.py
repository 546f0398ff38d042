"""Places where tests break a protocol on purpose. Inert: the environment variable is read only by a program
that was started with ``--unsafe-failpoints``, and until then a place costs one call of an empty function.

The variable ``LEPTOND_FAILPOINTS`` holds ``name=terms`` with ``;`` between. Terms follow each other with
``->``, each ``[N*]action``: that action N times (for ever, without N). Actions: ``off``, ``error`` (raises
OSError, EIO), ``kill`` (SIGKILL to the own process), ``stop`` (SIGSTOP), ``delay(seconds)``. So
``after_claim=3*off->1*kill`` dies at the fourth claim. Names that begin with ``shim_`` are places in the
shims, which count each for itself.

Little but the standard library's core is imported here: shims load this module at their start, those of warm
starts in the interpreter of the job.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

VARIABLE = "LEPTOND_FAILPOINTS"
PASSED_ON = ("LD_PRELOAD", "LEPTOND_FAULTS_")
"""Prefixes of environment variables that shims get while failpoints are armed: a library that tests preload,
and its settings."""

_TERM = re.compile(r"^(?:(\d+)\*)?(off|error|kill|stop|delay\((\d+(?:\.\d+)?)\))$")

Term: TypeAlias = "tuple[int | None, str, float]"
"""Number of times (None: for ever), action, seconds of a delay."""


class BadFailpoint(ValueError):
    """The text is not in the grammar."""


def parse(text: str) -> dict[str, list[Term]]:
    """Return the terms by name. Raises BadFailpoint.

    >>> parse("after_claim=3*off->1*kill; before_go=delay(0.5)")
    {'after_claim': [(3, 'off', 0.0), (1, 'kill', 0.0)], 'before_go': [(None, 'delay', 0.5)]}
    """
    found: dict[str, list[Term]] = {}
    for item in filter(None, (part.strip() for part in text.split(";"))):
        name, mark, terms = item.partition("=")
        if not mark or not name.strip().isidentifier():
            raise BadFailpoint(f"{item!r} is not name=terms")
        found[name.strip()] = []
        for term in terms.split("->"):
            match = _TERM.match(term.strip())
            if match is None:
                raise BadFailpoint(f"{term.strip()!r} is not [N*]off, error, kill, stop or delay(seconds)")
            times, action, seconds = match.groups()
            found[name.strip()].append(
                (int(times) if times else None, action.partition("(")[0], float(seconds or 0))
            )
    return found


def _off(name: str) -> None:
    """Do nothing, as every place does in a release."""


fp: Callable[[str], None] = _off
"""Call ``failpoints.fp("name")`` to mark a place."""

armed = False
shim_text = ""
"""Text for the shims; empty if it names none of their places."""


def arm(text: str) -> None:
    """Activate the places of `text`, also for shims started from now on. Raises BadFailpoint."""
    global fp, armed, shim_text
    plan = parse(text)
    armed = True
    shim_text = text if "shim_" in text else ""
    passed: dict[str, int] = {}

    def act(name: str) -> None:
        terms = plan.get(name)
        if terms is None:
            return
        count = passed[name] = passed.get(name, 0) + 1
        for times, action, seconds in terms:
            if times is None or count <= times:
                _do(name, action, seconds)
                return
            count -= times

    fp = act


def _do(name: str, action: str, seconds: float) -> None:
    if action == "error":
        raise OSError(errno.EIO, f"failpoint {name}")
    if action == "delay":
        time.sleep(seconds)
    elif action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)


def shim_environment() -> dict[str, str]:
    """Return additional environment variables for shims; empty unless failpoints are armed."""
    if not armed:
        return {}
    return {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
