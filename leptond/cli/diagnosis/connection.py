"""Doctor's checks of the way to the daemon and of its own answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from leptond import __version__
from leptond.cli.diagnosis.checks import sqlite_version
from leptond.cli.diagnosis.finding import FAIL, OK, WARN, Finding
from leptond.client.errors import ClientError
from leptond.client.installation import installed, start_advice
from leptond.client.target import Target, find_token, token_file
from leptond.client.transport import Transport

MAX_SKEW_S = 5.0
_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""Before this program was written: a clock that says so was never set."""


def socket(target: Target) -> Iterator[Finding]:
    """Check that the daemon's socket is there, that this account may use it, and others may not."""
    if target.path is None:
        yield Finding(OK, "address", f"{target} (TCP)")
        return
    try:
        mode = Path(target.path).stat().st_mode
    except FileNotFoundError:
        looked = ", ".join(map(str, target.looked_at)) or str(target.path)
        yield Finding(
            FAIL,
            "socket",
            f"there is none; looked at {looked}",
            f"{start_advice(installed(os.environ))}; a daemon elsewhere is named with LEPTOND_HOST",
        )
        return
    except OSError as error:
        yield Finding(FAIL, "socket", f"{target.path}: {error.strerror}", "use an account that may reach it")
        return
    if not os.access(target.path, os.W_OK):
        yield Finding(
            FAIL,
            "socket",
            f"{target.path} may not be used by this account",
            "become a member of its group (usually leptond) and log in again",
        )
    elif mode & 0o007:
        yield Finding(
            WARN, "socket", f"{target.path} is open to every account", f"run: chmod o= {target.path}"
        )
    else:
        yield Finding(OK, "socket", f"{target.path} (mode {mode & 0o777:04o})")


def token(target: Target) -> Iterator[Finding]:
    """Check that the token is this user's alone, and that there is one for TCP."""
    file = Path(token_file(os.environ))
    try:
        mode = file.stat().st_mode
    except OSError:
        mode = 0o600
    if mode & 0o077:
        yield Finding(WARN, "token", f"{file} can be read by others", f"run: chmod 600 {file}")
    if target.path is None and find_token(os.environ) is None:
        yield Finding(
            FAIL, "token", "TCP needs one, and there is none", f"set LEPTOND_TOKEN, or put it into {file}"
        )


def clock(date: str | None) -> Finding:
    """Check this machine's clock against the `date` of the daemon's answer."""
    from email.utils import parsedate_to_datetime

    now = datetime.now(UTC)
    if now < _EARLIEST:
        return Finding(FAIL, "clock", f"it says {now:%Y-%m-%d}", "set it: timedatectl set-ntp true")
    try:
        skew_s = abs((now - parsedate_to_datetime(date or "")).total_seconds())
    except (TypeError, ValueError):
        return Finding(OK, "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")
    if skew_s > MAX_SKEW_S:
        fix = "set both machines' clocks: timedatectl set-ntp true"
        return Finding(WARN, "clock", f"it differs from the daemon's by {skew_s:.0f} s", fix)
    return Finding(OK, "clock", f"{now:%Y-%m-%d %H:%M:%S} UTC, as the daemon's")


def ready(api: Transport) -> Finding:
    """Check that the daemon takes jobs. Raises ClientError."""
    try:
        api.request("GET", "/readyz", patience_s=0)
    except ClientError as error:
        if error.status != 503:
            raise
        phase = (error.problem.get("checks") or {}).get("scheduler") or str(error)
        return Finding(FAIL, "ready", f"not yet: {phase}", "wait a moment; then look into the daemon's log")
    return Finding(OK, "ready", "the queue is open")


def of_status(status: dict[str, Any]) -> Iterator[Finding]:
    """The daemon's version, and the warnings that its status holds."""
    if status["version"] == __version__:
        yield Finding(OK, "version", __version__)
    else:
        yield Finding(
            WARN,
            "version",
            f"the daemon is {status['version']}, leptonctl is {__version__}",
            "restart the daemon after an update; running jobs go on",
        )
    if status.get("accounts") == "multi-user":
        yield Finding(OK, "accounts", "each job runs as its submitter")
    own = ".".join(map(str, sqlite_version()))
    for warning in [*status["warnings"], *status["notes"]]:
        if warning.startswith(f"SQLite {own} "):
            continue  # a daemon before 0.5 says it too, of the version that is checked above
        yield Finding(WARN, "daemon", warning)
