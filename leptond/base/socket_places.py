"""Where a daemon puts its sockets, and where its clients look for one: the same list for both.

Nothing but the standard library's core is imported here: the command line loads this module at its start."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET = "leptond/leptond.sock"
MACHINE = "/run"
LONGEST = 107
"""The most bytes of a Unix socket's path."""


def of_user(environ: Mapping[str, str]) -> list[str]:
    """Return the sockets of a user's own daemon, which listens at all of them that it can: in the runtime
    directory, which the last logout removes, and in the state directory, which stays.

    >>> of_user({"HOME": "/h", "XDG_RUNTIME_DIR": "/r", "XDG_STATE_HOME": "relative"})
    ['/r/leptond/leptond.sock', '/h/.local/state/leptond/leptond.sock']
    """
    runtime, state = environ.get("XDG_RUNTIME_DIR", ""), environ.get("XDG_STATE_HOME", "")
    # the XDG specification: a relative path is invalid and is ignored
    places = [
        runtime if runtime.startswith("/") else f"/run/user/{os.getuid()}",
        state if state.startswith("/") else f"{_home(environ)}/.local/state",
    ]
    return [f"{place.rstrip('/')}/{SOCKET}" for place in places]


def to_look_at(environ: Mapping[str, str]) -> list[str]:
    """Return the sockets at which a daemon of this user or of the machine may listen, in the order to try."""
    runtime, state = of_user(environ)
    other = f"/run/user/{os.getuid()}/{SOCKET}"  # that of a daemon which was started in a session
    return list(dict.fromkeys([runtime, other, state, f"{MACHINE}/{SOCKET}"]))


def _home(environ: Mapping[str, str]) -> str:
    return environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111  # pathlib costs milliseconds
