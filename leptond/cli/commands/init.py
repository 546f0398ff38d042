"""`leptonctl init`: the configuration and the unit of an installation, written where they belong."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from leptond.base.paths import data_dir, system_places, user_places
from leptond.cli.framework.click_bridge import command
from leptond.cli.framework.session import Session, leave

CONFIG = """\
# leptond's configuration. Every key and its default: docs/operations.md, or `leptond check-config`.
# The daemon reads it at its start: leptond check-config && {restart}

[http]
# the page and TCP, on this machine only and with a token (`leptonctl dashboard` prints the address)
listen = {listen}

[queue]
# jobs without GPUs that run at a time; 0: as many as there are cores
cpu_slots = 0

[jobs]
# between the stop signal and the kill, unless a job says otherwise
grace_s = 45.0

[gpus]
# devices for a rehearsal on a machine without any
simulate = 0
"""

UNIT_EXEC = "ExecStart="


@dataclass(frozen=True)
class Plan:
    """The files to write, and the user's next steps."""

    files: tuple[tuple[Path, str], ...]
    after: tuple[str, ...]


def plan(*, system: bool, listen: str, leptond: str) -> Plan:
    """The files of an installation; `leptond` is the path of the daemon's program."""
    name = "leptond.service" if system else "leptond-user.service"
    unit = _with_program((data_dir("systemd") / name).read_text(), leptond)
    places = system_places() if system else user_places()
    restart = "systemctl restart leptond" if system else "systemctl --user restart leptond"
    config = CONFIG.format(restart=restart, listen=f'"{listen}"')
    files: tuple[tuple[Path, str], ...]
    after: tuple[str, ...]
    if system:
        files = (
            (Path("/etc/systemd/system/leptond.service"), unit),
            (Path("/etc/sysusers.d/leptond.conf"), (data_dir("systemd") / "leptond.sysusers").read_text()),
            (places.config_file, config),
        )
        after = (
            "systemd-sysusers",
            "systemctl daemon-reload && systemctl enable --now leptond",
            "usermod -aG leptond USER      # for each who may use the queue",
        )
    else:
        units = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"
        files = ((units / "leptond.service", unit), (places.config_file, config))
        after = (
            "systemctl --user daemon-reload && systemctl --user enable --now leptond",
            "loginctl enable-linger        # keeps it, and its jobs, running after you log out",
        )
    return Plan(files=files, after=(*after, "leptonctl doctor"))


def _with_program(unit: str, leptond: str) -> str:
    """The unit with the program that is installed here; the arguments stay."""
    lines = []
    for line in unit.splitlines():
        if line.startswith(UNIT_EXEC):
            _, _, arguments = line.removeprefix(UNIT_EXEC).partition(" ")
            line = f"{UNIT_EXEC}{leptond} {arguments}"
        lines.append(line)
    return "\n".join(lines) + "\n"


@command("init", short_help="Write the configuration and the systemd unit.")
@click.option("--user", "mode", flag_value="user", default=True, help="For yourself [this].")
@click.option("--system", "mode", flag_value="system", help="For the machine (as root).")
@click.option("--listen", default="", metavar="HOST:PORT", help="Also serve the page, as 127.0.0.1:8370.")
@click.option("--dry-run", is_flag=True, help="Show what would be written.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
def init_command(session: Session, mode: str, listen: str, dry_run: bool, force: bool) -> None:
    """Write a configuration and a systemd unit that starts the leptond of this installation. Nothing is
    started, and no file is written over unless --force is given."""
    program = Path(sys.executable).with_name("leptond")
    if not program.exists():
        session.warn(f"{program} is not there: install leptond with pip into this environment first")
        leave(1)
    todo = plan(system=mode == "system", listen=listen, leptond=str(program))
    if dry_run:
        for path, text in todo.files:
            click.echo(f"# {path}\n{text}")
        return
    there = [path for path, _ in todo.files if path.exists()]
    if there and not force:
        session.warn(f"there already: {', '.join(map(str, there))}")
        session.say("  look with --dry-run, write over with --force; nothing was written")
        leave(4)
    for path, text in todo.files:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as error:
            session.warn(f"{path} cannot be written: {error.strerror}")
            if mode == "system" and os.geteuid() != 0:
                session.say("  --system writes below /etc: run it as root (sudo)")
            leave(5 if isinstance(error, PermissionError) else 1)
        session.say(f"wrote {path}")
    session.say("next:")
    for line in todo.after:
        click.echo(line)
