"""`leptonctl doctor`: looks at everything that has to be right, from outside the daemon."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from leptond.base.paths import home
from leptond.cli.diagnosis import checks, connection, warm
from leptond.cli.diagnosis.finding import FAIL, OK, WARN, Finding
from leptond.cli.framework.click_bridge import command
from leptond.cli.framework.session import Session, leave
from leptond.cli.framework.terminal import clean
from leptond.client.errors import ClientError
from leptond.client.target import Target, find_target
from leptond.client.transport import Transport


@command("doctor", short_help="Check the installation, and say how to mend it.")
def doctor_command(session: Session) -> None:
    """Check the daemon and the way to it, its configuration, unit and backups, the clock, the disks, limits,
    the NVIDIA driver, torch, SQLite and systemd.

    Every line is OK, WARN or FAIL, with what mends it. Leaves with 1 when something FAILs.
    """
    findings = list(_findings(session))
    if session.json:
        session.emit([vars(finding) for finding in findings])
    else:
        for finding in findings:
            color = {OK: "green", WARN: "yellow", FAIL: "red"}[finding.level]
            level = click.style(f"{finding.level:<4}", fg=color) if session.color else f"{finding.level:<4}"
            click.echo(f"{level}  {finding.check}: {clean(finding.detail)}", color=session.color)
            if finding.fix and finding.level != OK:
                click.echo(f"      {clean(finding.fix)}")
    leave(1 if any(finding.level == FAIL for finding in findings) else 0)


def _findings(session: Session) -> Iterator[Finding]:
    yield checks.python()
    yield checks.sqlite(checks.sqlite_version())
    target = find_target(session.host, os.environ)
    yield from connection.socket(target)
    yield from connection.token(target)
    yield from _group(target)
    status = database = None
    warm_environments: list[dict[str, Any]] = []
    api = Transport.find(session.host, timeout_s=5.0, trace=session.say if session.verbose else None)
    try:
        reply = api.request("GET", "/healthz", patience_s=0)
        yield Finding(OK, "daemon", f"answers at {target}")
        yield connection.clock(reply.headers.get("Date"))
        yield connection.ready(api)
        status = api.request("GET", "/v1/status", patience_s=0).json()
        with contextlib.suppress(ClientError):  # only for those who run the daemon
            database = api.request("GET", "/v1/db", patience_s=0).json()
            warm_environments = api.request("GET", "/v1/warm-environments", patience_s=0).json()["items"]
    except ClientError as error:
        yield Finding(FAIL, "daemon", str(error), error.hint)
    finally:
        api.close()
    if status is not None:
        yield from connection.of_status(status)
    yield from warm.environments(warm_environments)
    if target.path is None and target.host not in ("localhost", "127.0.0.1", "::1"):
        return  # the rest looks at this machine, and the daemon is on another
    state_dir = Path(database["path"]).parent if database is not None else checks.state_dir(target, status)
    yield checks.disk(state_dir)
    yield checks.driver(status)
    yield from _machine(status, database, state_dir)
    yield from checks.systemd(target)
    yield checks.cgroup(status)


def _machine(
    status: dict[str, Any] | None, database: dict[str, Any] | None, state_dir: Path
) -> Iterator[Finding]:
    """The rest of this machine."""
    import shutil

    system = status is not None and status["mode"] == "system"
    yield checks.configuration(("--system",) if system else ())
    yield checks.program(Path(sys.argv[0]).absolute(), os.environ.get("PATH"))
    own_units = Path(os.environ.get("XDG_CONFIG_HOME") or home() / ".config") / "systemd/user"
    yield from checks.unit((Path("/etc/systemd/system/leptond.service"), own_units / "leptond.service"))
    yield checks.network_disk(state_dir)
    try:
        shm = shutil.disk_usage("/dev/shm").total
    except OSError:
        shm = None
    yield checks.shared_memory(shm)
    yield checks.temporary(os.environ)
    if status is not None:
        yield from checks.open_files(status["pid"])
        yield from checks.out_of_service(status)
        yield from checks.simulated(status)
        if any(gpu["present"] and not gpu["simulated"] for gpu in status["gpus"]):
            yield from checks.torch(shutil.which("python") or shutil.which("python3"))
    if database is not None and status is not None:
        started = datetime.fromisoformat(status["started_at"])
        yield checks.backups(database, started, datetime.now(UTC))


def _group(target: Target) -> Iterator[Finding]:
    import grp
    import pwd

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
        known = grp.getgrnam("leptond")
    except KeyError:
        return
    members = {"leptond": (known.gr_gid, list(known.gr_mem))}
    yield from checks.group(target.path, user, frozenset((*os.getgroups(), os.getegid())), members)
