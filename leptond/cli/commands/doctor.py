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

from leptond import __version__
from leptond.cli.diagnosis import checks
from leptond.cli.diagnosis.finding import FAIL, OK, WARN, Finding
from leptond.cli.framework.click_bridge import command
from leptond.cli.framework.session import Session, leave
from leptond.cli.framework.terminal import clean
from leptond.client.errors import ClientError
from leptond.client.target import Target, find_target, find_token, token_file
from leptond.client.transport import Transport
from leptond.core.jobs.timespec import format_size

MIN_PYTHON = (3, 11)
LOW_DISK_BYTES = 5 << 30
FULL_DISK_BYTES = 512 << 20
MAX_SKEW_S = 5.0
_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""Before this program was written: a clock that says so was never set."""


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
    yield _python()
    yield sqlite(_sqlite_version())
    target = find_target(session.host, os.environ)
    yield from _socket(target)
    yield from _token(target)
    yield from _group(target)
    status = database = None
    api = Transport.find(session.host, timeout_s=5.0, trace=session.say if session.verbose else None)
    try:
        reply = api.request("GET", "/healthz", patience_s=0)
        yield Finding(OK, "daemon", f"answers at {target}")
        yield _clock(reply.headers.get("Date"))
        yield _ready(api)
        status = api.request("GET", "/v1/status", patience_s=0).json()
        with contextlib.suppress(ClientError):  # only for those who run the daemon
            database = api.request("GET", "/v1/db", patience_s=0).json()
    except ClientError as error:
        yield Finding(FAIL, "daemon", str(error), error.hint)
    finally:
        api.close()
    if status is not None:
        yield from _of_status(status)
    if target.path is None and target.host not in ("localhost", "127.0.0.1", "::1"):
        return  # the rest looks at this machine, and the daemon is on another
    state_dir = Path(database["path"]).parent if database is not None else _state_dir(target, status)
    yield _disk(state_dir)
    yield driver(status)
    yield from _machine(status, database, state_dir)
    yield from _systemd(target)
    yield _cgroup(status)


def _machine(
    status: dict[str, Any] | None, database: dict[str, Any] | None, state_dir: Path
) -> Iterator[Finding]:
    """The rest of this machine."""
    import shutil

    system = status is not None and status["mode"] == "system"
    yield checks.configuration(("--system",) if system else ())
    yield checks.program(Path(sys.argv[0]).absolute(), os.environ.get("PATH"))
    own_units = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd/user"
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


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < MIN_PYTHON:
        return Finding(FAIL, "python", f"{version} is too old", "install leptond under Python 3.11 or newer")
    return Finding(OK, "python", f"{version} ({sys.executable})")


def _sqlite_version() -> tuple[int, int, int]:
    import sqlite3

    return sqlite3.sqlite_version_info


def sqlite(version: tuple[int, int, int]) -> Finding:
    """Check this SQLite for the WAL-reset fault (3.7.0 to 3.51.2; fixed in 3.51.3, 3.50.7 and 3.44.6:
    sqlite.org/wal.html). leptond writes through one connection, which keeps clear of it."""
    text = ".".join(map(str, version))
    mended = (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45) or version >= (3, 51, 3)
    if mended or version < (3, 7):
        return Finding(OK, "sqlite", text)
    return Finding(
        WARN,
        "sqlite",
        f"{text} can lose commits when two programs write the same database",
        "open the queue's database with nothing but leptond while it runs, or use SQLite 3.51.3 or newer",
    )


def _socket(target: Target) -> Iterator[Finding]:
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
            "start the daemon: systemctl --user start leptond, or: leptond run; or name it with LEPTOND_HOST",
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


def _token(target: Target) -> Iterator[Finding]:
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


def _clock(date: str | None) -> Finding:
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


def _ready(api: Transport) -> Finding:
    try:
        api.request("GET", "/readyz", patience_s=0)
    except ClientError as error:
        if error.status != 503:
            raise
        phase = (error.problem.get("checks") or {}).get("scheduler") or str(error)
        return Finding(FAIL, "ready", f"not yet: {phase}", "wait a moment; then look into the daemon's log")
    return Finding(OK, "ready", "the queue is open")


def _of_status(status: dict[str, Any]) -> Iterator[Finding]:
    if status["version"] == __version__:
        yield Finding(OK, "version", __version__)
    else:
        yield Finding(
            WARN,
            "version",
            f"the daemon is {status['version']}, leptonctl is {__version__}",
            "restart the daemon after an update; running jobs go on",
        )
    own = ".".join(map(str, _sqlite_version()))
    for warning in [*status["warnings"], *status["notes"]]:
        if warning.startswith(f"SQLite {own} "):
            continue  # said above, of the same version
        yield Finding(WARN, "daemon", warning)


def _state_dir(target: Target, status: dict[str, Any] | None) -> Path:
    """The daemon's state directory, as far as it is known here."""
    jobs = [*status["running"], *status["failed_recently"], *status["next"]] if status else []
    if jobs:
        return Path(jobs[0]["checkpoint_dir"]).parent.parent
    system = status["mode"] == "system" if status else str(target.path).startswith("/run/leptond/")
    if system:
        return Path("/var/lib/leptond")
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if state.startswith("/") else Path.home() / ".local/state") / "leptond"


def _disk(directory: Path) -> Finding:
    import shutil

    place = next((p for p in (directory, *directory.parents) if p.is_dir()), Path("/"))
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Finding(WARN, "disk", f"{place}: {error.strerror}")
    detail = f"{format_size(free)} free at {place}"
    fix = "make room: leptonctl history shows old jobs, whose output and checkpoints are there"
    level = FAIL if free < FULL_DISK_BYTES else WARN if free < LOW_DISK_BYTES else OK
    return Finding(level, "disk", detail, fix)


def driver(status: dict[str, Any] | None, root: Path = Path("/")) -> Finding:
    """Check that the NVIDIA driver's files are there, and that the daemon sees the GPUs that they name."""
    version_file, device_file = root / "proc/driver/nvidia/version", root / "dev/nvidiactl"
    loaded, device = version_file.exists(), device_file.exists()
    seen = [gpu for gpu in status["gpus"] if gpu["present"] and not gpu["simulated"]] if status else None
    if not loaded and not device:
        if seen:
            return Finding(OK, "nvidia", f"no driver here; the daemon sees {len(seen)} GPUs")
        fix = "to try leptond without GPUs: leptond run --simulate-gpus 4"
        return Finding(OK, "nvidia", "no driver is loaded; jobs run without GPUs", fix)
    if loaded != device:
        have, lack = ("/proc/driver/nvidia", "/dev/nvidiactl")[:: 1 if loaded else -1]
        fix = "run nvidia-smi as root once (it makes the device files), or install the driver again"
        return Finding(FAIL, "nvidia", f"{have} is there, {lack} is not", fix)
    version = _first_line(version_file)
    if not os.access(device_file, os.R_OK | os.W_OK):
        fix = "this account (and the daemon's) needs access to /dev/nvidia*: often the group video or render"
        return Finding(FAIL, "nvidia", "/dev/nvidiactl may not be used by this account", fix)
    if seen is None:
        return Finding(OK, "nvidia", version)
    if not seen:
        note = (status or {}).get("gpu_note") or f"backend {(status or {}).get('gpu_backend')}"
        fix = "set gpus.backend to auto, and look at what nvidia-smi says"
        return Finding(FAIL, "nvidia", f"the driver is loaded, but the daemon sees no GPU ({note})", fix)
    return Finding(OK, "nvidia", f"{len(seen)} GPUs; {version}")


def _first_line(file: Path) -> str:
    try:
        return file.read_text(errors="replace").partition("\n")[0].strip()
    except OSError as error:
        return f"{file}: {error.strerror}"


def _systemd(target: Target) -> Iterator[Finding]:
    if not Path("/run/systemd/system").is_dir():
        yield Finding(OK, "systemd", "it does not run here; start the daemon with: leptond run")
        return
    if str(target.path).startswith("/run/leptond/") or target.path is None:
        return
    import pwd

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return
    if Path("/var/lib/systemd/linger", user).exists():
        yield Finding(OK, "linger", f"on for {user}: the daemon outlives your session")
    else:
        yield Finding(
            WARN,
            "linger",
            f"off for {user}: a daemon under systemctl --user, and its jobs, end when you log out",
            f"run: loginctl enable-linger {user}",
        )


def _cgroup(status: dict[str, Any] | None) -> Finding:
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return Finding(
            WARN,
            "cgroup",
            "there is no cgroup v2; jobs are contained by their process tree",
            "boot with systemd.unified_cgroup_hierarchy=1 for a kill that nothing escapes",
        )
    pid = status["pid"] if status else None
    place = _cgroup_of(pid) if pid is not None else None
    if place is None:
        return Finding(OK, "cgroup", "v2")
    if _is_delegated(place):
        return Finding(OK, "cgroup", f"v2, delegated to the daemon ({place})")
    return Finding(
        WARN,
        "cgroup",
        "v2, but none is delegated to the daemon; jobs are contained by their process tree",
        "run it as a systemd service with Delegate=yes (systemd/leptond.service)",
    )


def _cgroup_of(pid: int) -> Path | None:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return None
    relative = next((line[3:] for line in lines if line.startswith("0::")), None)
    return None if relative is None else Path("/sys/fs/cgroup") / relative.lstrip("/")


def _is_delegated(place: Path) -> bool:
    """systemd marks what it delegates with an extended attribute."""
    for name in ("trusted.delegate", "user.delegate"):
        try:
            if os.getxattr(place, name) == b"1":
                return True
        except OSError:
            continue
    return False
