"""How leptond is installed on this machine: which systemd unit starts it, if any does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

Kind = Literal["user", "system"]
"""Whose unit it is: the user's own, or the machine's."""

UNIT = "leptond.service"
_OF_USERS = ("etc/systemd/user", "usr/local/lib/systemd/user", "usr/lib/systemd/user")
_OF_THE_MACHINE = ("etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")


def user_units(environ: Mapping[str, str]) -> str:
    """The directory of this user's own units."""
    config = environ.get("XDG_CONFIG_HOME", "")
    home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111  # pathlib costs milliseconds
    return f"{config if config.startswith('/') else f'{home}/.config'}/systemd/user"


def installed(environ: Mapping[str, str], root: str = "/") -> Kind | None:
    """Whose unit starts leptond here, the user's before the machine's; None: there is no unit. The machine's
    units are looked for below `root`."""
    if os.path.exists(f"{user_units(environ)}/{UNIT}"):  # noqa: PTH110
        return "user"
    places: tuple[tuple[Kind, tuple[str, ...]], ...] = (("user", _OF_USERS), ("system", _OF_THE_MACHINE))
    for kind, directories in places:
        if any(os.path.exists(os.path.join(root, place, UNIT)) for place in directories):  # noqa: PTH110, PTH118
            return kind
    return None


def systemctl(kind: Kind, verb: str) -> str:
    """The command that starts, stops or restarts the unit."""
    return f"systemctl --user {verb} leptond" if kind == "user" else f"sudo systemctl {verb} leptond"


def journal(kind: Kind) -> str:
    """The command that shows the unit's log."""
    return "journalctl --user -u leptond" if kind == "user" else "sudo journalctl -u leptond"


def start_advice(kind: Kind | None) -> str:
    """How to start the daemon of this installation."""
    if kind is None:
        return (
            "start it in a terminal: leptond run; or as a service: leptonctl init writes the unit; "
            "leptonctl doctor looks further"
        )
    return f"start it: {systemctl(kind, 'start')}; its log: {journal(kind)}; leptonctl doctor looks further"


def config_file(kind: Kind | None, environ: Mapping[str, str]) -> str:
    """The configuration that this installation's daemon reads."""
    if kind == "system":
        return "/etc/leptond/config.toml"
    return user_units(environ).removesuffix("systemd/user") + "leptond/config.toml"
