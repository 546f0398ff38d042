"""`leptonctl db`: the queue's database, and copies of it."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

import click

from leptond.cli.framework.click_bridge import command, shared_options
from leptond.cli.framework.output import Column, print_table
from leptond.cli.framework.progress import Bar
from leptond.cli.framework.session import Session
from leptond.cli.text import phrases
from leptond.client.errors import ClientError
from leptond.core.jobs.timespec import format_size

PATIENCE_S = 3600.0
"""A large database takes its time before the first byte comes."""

LIVE_COLUMNS = (
    Column("JOB", right=True),
    Column("ATTEMPT", right=True),
    Column("SHIM", right=True),
    Column("GPUS"),
    Column("NAME", fold=True),
)


@click.group(
    "db",
    short_help="The queue's database, and copies of it.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@shared_options(hidden=True)
def db_command() -> None:
    """The queue's database: what it is, copies of it while it is in use, and what still runs when it is
    damaged."""


def _failed(detail: str, hint: str) -> ClientError:
    return ClientError({"title": "No backup", "status": 0, "detail": detail, "hint": hint}, exit_code=1)


@command("info", short_help="Where the database is, how large, and its backups.")
def info_command(session: Session) -> None:
    """Show the database of the daemon and the backups that the daemon keeps."""
    seen = session.api.get("/v1/db")
    if session.json:
        session.emit(seen)
        return
    click.echo(f"{seen['path']}: schema {seen['schema']}, SQLite {seen['sqlite_version']}")
    click.echo(
        f"{format_size(seen['bytes'])}, log {format_size(seen['log_bytes'])}, "
        f"{format_size(seen['free_bytes'])} free on its disk"
    )
    if not seen["backups"]:
        session.say("There is no backup yet; take one: leptonctl db backup")
    for one in seen["backups"]:
        taken = phrases.ago(one["taken_at"], table=session.table)
        click.echo(f"backup {one['name']}\t{format_size(one['bytes'])}\t{taken}")


@command("backup", short_help="Copy the database while it is in use.")
@click.argument("path", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Replace PATH if it is there.")
def backup_command(session: Session, path: Path | None, force: bool) -> None:
    """Copy the queue's database as it is now; nothing waits for it. To PATH, written by you with your own
    rights (mode 0600: it holds the environment of every job), or without PATH into backups/ of the daemon's
    state directory. `leptond recover --from FILE` puts one back."""
    if path is None:
        with Bar(session, "copying the database"):
            reply = session.api.request("POST", "/v1/db/backups", wait_s=PATIENCE_S)
        one = reply.json()
        if session.json:
            session.emit(one)
        else:
            click.echo(f"Backup {one['name']} ({format_size(one['bytes'])}) in the daemon's backups/")
        return
    if path.exists() and not force:
        raise _failed(f"{path} is there already", "name another file, or say --force")
    if path.exists() and not path.is_file():
        raise _failed(f"{path} is not a file", "name another file")
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with Bar(session, "copying the database"):
            size = _receive(session, aside)
        if force:
            aside.replace(path)
        else:
            os.link(aside, path)  # unlike a rename it replaces nothing that has come meanwhile
            aside.unlink()
        _sync(path.parent)
    except OSError as error:
        raise _failed(f"{path} cannot be written: {error.strerror}", "name another file") from None
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
    if session.json:
        session.emit({"path": str(path), "bytes": size})
    else:
        click.echo(f"Backup {path} ({format_size(size)})")


def _receive(session: Session, aside: Path) -> int:
    import hashlib

    digest, size = hashlib.sha256(), 0
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with (
        os.fdopen(fd, "wb") as file,
        session.api.stream("/v1/db/backup", timeout_s=PATIENCE_S) as response,
    ):
        for piece in session.api.pieces(response):
            file.write(piece)
            digest.update(piece)
            size += len(piece)
        file.flush()
        os.fsync(file.fileno())
        wanted = response.headers.get("X-Checksum-Sha256")
    if wanted != digest.hexdigest():
        raise _failed("what came is not what was sent", "try again")
    return size


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@command("recover", short_help="List what still runs, without daemon or database.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="The daemon's state directory.")
def recover_command(session: Session, state_dir: Path | None) -> None:
    """List the jobs that run, from their own directories and /proc: for when the daemon does not start. It
    needs no daemon and changes nothing. `leptond recover` mends the database and takes them back."""
    from leptond.attempt_files.directory import live_attempts
    from leptond.cli.diagnosis import checks
    from leptond.client.target import find_target

    place = state_dir or checks.state_dir(find_target(session.host, os.environ), None)
    try:
        found = live_attempts(place / "jobs")
    except OSError as error:
        raise _failed(f"{place}/jobs cannot be read: {error.strerror}", "say --state-dir DIR") from None
    if session.json:
        session.emit({"state_dir": str(place), "items": [one.as_json() for one in found]})
        return
    rows: list[list[Any]] = [
        [one.job_id, one.number, one.pid, ",".join(map(str, one.gpu_indices)), one.name or ""]
        for one in found
    ]
    print_table(session, LIVE_COLUMNS, rows)
    jobs = "1 attempt runs" if len(found) == 1 else f"{len(found)} attempts run"
    session.say(f"{jobs} under {place}. Next: leptond recover --dry-run")


for _one in (info_command, backup_command, recover_command):
    db_command.add_command(_one)
