"""`leptonctl init`: the configuration, the unit and the programs of an installation, written where they
belong."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from leptond.base.paths import data_dir, home, system_places, user_places
from leptond.cli.framework.click_bridge import command
from leptond.cli.framework.session import Session, leave
from leptond.client.installation import UNIT, systemctl, user_units
from leptond.client.target import DEFAULT_PORT

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
# how many GPUs a job gets that does not say (--gpus)
gpus = 0
# between the stop signal and the kill, unless a job says otherwise
grace_s = 45.0

[accounts]
# whose rights jobs have: the daemon's own ("service-user"), or each its submitter's ("multi-user", as root)
mode = "{accounts}"

[gpus]
# devices for a rehearsal on a machine without any
simulate = 0
"""

BESIDE_THE_UNIT = (
    ("leptond.socket", "/etc/systemd/system/leptond.socket"),
    ("leptond.sysusers", "/etc/sysusers.d/leptond.conf"),
    ("leptond.tmpfiles", "/etc/tmpfiles.d/leptond.conf"),
)
"""What `--system` installs as it is: the name among the units of the package, and where it belongs."""
JOBS_UNIT = "leptond-jobs.service"
UNIT_EXEC = "ExecStart="
PROGRAMS = ("leptond", "leptonctl")
MAN = "share/man/man1"
PORTS = 30
"""How many ports are tried, from DEFAULT_PORT on: each user's daemon has one of its own."""


@dataclass(frozen=True)
class Plan:
    """The files to write, the links to make (from, to), and the user's next steps."""

    files: tuple[tuple[Path, str], ...]
    links: tuple[tuple[Path, Path], ...]
    after: tuple[str, ...]


def plan(
    *,
    system: bool,
    multi_user: bool = False,
    separate_jobs: bool = False,
    listen: str,
    leptond: str,
    environ: Mapping[str, str] | None = None,
) -> Plan:
    """The files of an installation; `leptond` is the path of the daemon's program. `multi_user`: of one for a
    machine whose jobs run as their submitters; `separate_jobs`: with the jobs in a unit of their own."""
    environ = os.environ if environ is None else environ
    name = "leptond-user.service"
    if system:
        name = "leptond-multi-user.service" if multi_user else "leptond.service"
    unit = _with_program((data_dir("systemd") / name).read_text(), leptond)
    places = system_places() if system else user_places()
    restart = systemctl("system" if system else "user", "restart")
    accounts = "multi-user" if multi_user else "service-user"
    config = CONFIG.format(restart=restart, listen=f'"{listen}"', accounts=accounts)
    files: tuple[tuple[Path, str], ...]
    after: tuple[str, ...]
    if system:
        bin_dir = Path("/usr/local/bin")
        files = (
            (Path("/etc/systemd/system") / UNIT, unit),
            *((Path(to), (data_dir("systemd") / name).read_text()) for name, to in BESIDE_THE_UNIT),
            *(_jobs_unit(leptond) if separate_jobs else ()),
            (places.config_file, config),
        )
        after = (
            "systemd-sysusers && systemd-tmpfiles --create leptond.conf",
            "systemctl daemon-reload && systemctl enable --now leptond",
            "usermod -aG leptond USER      # for each who may use the queue",
        )
    else:
        bin_dir = home() / ".local/bin"
        files = ((Path(user_units(environ)) / UNIT, unit), (places.config_file, config))
        after = (
            "systemctl --user daemon-reload && systemctl --user enable --now leptond",
            "loginctl enable-linger        # keeps it, and its jobs, running after you log out",
        )
        if str(bin_dir) not in environ.get("PATH", "").split(":"):
            after = ('export PATH="$HOME/.local/bin:$PATH"      # and in ~/.bashrc', *after)
    links = [(bin_dir / program, Path(leptond).with_name(program)) for program in PROGRAMS]
    for program in PROGRAMS:
        # man looks beside the directories of the PATH
        page = Path(leptond).parents[1] / MAN / f"{program}.1"
        if page.is_file():
            links.append((bin_dir.parent / MAN / page.name, page))
    return Plan(
        files=files,
        links=tuple(links),
        after=(*after, "leptonctl dashboard           # the page's address", "leptonctl doctor"),
    )


def free_address(first: int = DEFAULT_PORT) -> str:
    """The first address of this machine from port `first` on on which nothing listens; that of `first` when
    all that are tried are taken."""
    for port in range(first, first + PORTS):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return f"127.0.0.1:{port}"
    return f"127.0.0.1:{first}"


def _with_program(unit: str, leptond: str) -> str:
    """The unit with the program that is installed here; the arguments stay."""
    lines = []
    for line in unit.splitlines():
        if line.startswith(UNIT_EXEC):
            _, _, arguments = line.removeprefix(UNIT_EXEC).partition(" ")
            line = f"{UNIT_EXEC}{leptond} {arguments}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _jobs_unit(leptond: str) -> tuple[tuple[Path, str], ...]:
    """The unit that jobs have of their own, and the drop-in that makes the daemon's tight."""
    units = data_dir("systemd")
    jobs = _with_program((units / JOBS_UNIT).read_text(), leptond)
    tight = (units / "leptond-tight.conf").read_text()
    place = Path("/etc/systemd/system")
    return ((place / JOBS_UNIT, jobs), (place / f"{UNIT}.d/tight.conf", tight))


@command("init", short_help="Write the configuration and the systemd unit.")
@click.option("--user", "mode", flag_value="user", default=True, help="For yourself [this].")
@click.option("--system", "mode", flag_value="system", help="For the machine (as root).")
@click.option("--multi-user", is_flag=True, help="With --system: jobs run as their submitters.")
@click.option("--separate-jobs", is_flag=True, help="With --system: jobs in a unit beside a tighter daemon.")
@click.option(
    "--listen", metavar="HOST:PORT", help="Where the page is served [127.0.0.1:8370, or the next free port]."
)
@click.option("--no-listen", is_flag=True, help="Serve no page, only the Unix socket.")
@click.option("--no-links", is_flag=True, help="Make no links to leptond and leptonctl.")
@click.option("--dry-run", is_flag=True, help="Show what would be written.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
def init_command(
    session: Session,
    mode: str,
    multi_user: bool,
    separate_jobs: bool,
    listen: str | None,
    no_listen: bool,
    no_links: bool,
    dry_run: bool,
    force: bool,
) -> None:
    """Write a configuration and a systemd unit that starts the leptond of this installation, and link leptond
    and leptonctl, and no other program of it, into ~/.local/bin (--system: /usr/local/bin), with their manual
    pages. Nothing is
    started, and no file is written over unless --force is given; links that are missing are made all the
    same."""
    program = Path(sys.executable).with_name("leptond")
    if not program.exists():
        session.warn(f"{program} is not there: install leptond with pip into this environment first")
        leave(1)
    if listen and no_listen:
        raise click.UsageError("--listen says where, and --no-listen that it is nowhere; say one of them")
    if multi_user and mode != "system":
        raise click.UsageError("--multi-user is for a whole machine: say --system too")
    if separate_jobs and (mode != "system" or multi_user):
        raise click.UsageError(
            "--separate-jobs is for --system without --multi-user: jobs that run as their submitters come"
            " from a daemon with root's rights"
        )
    address = "" if no_listen else listen or free_address()
    todo = plan(
        system=mode == "system",
        multi_user=multi_user,
        separate_jobs=separate_jobs,
        listen=address,
        leptond=str(program),
    )
    links = () if no_links else todo.links
    if dry_run:
        for path, text in todo.files:
            click.echo(f"# {path}\n{text}")
        for link, target in links:
            click.echo(f"# {link} -> {target}")
        return
    there = [path for path, _ in todo.files if path.exists()]
    if there and not force:
        session.warn(f"there already: {', '.join(map(str, there))}")
        session.say("  look with --dry-run, write over with --force; no file was written")
        _link(session, links, force=False)
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
    _link(session, links, force=force)
    session.say("next:")
    for line in todo.after:
        click.echo(line)


def _link(session: Session, links: Sequence[tuple[Path, Path]], *, force: bool) -> None:
    """Make the links. A file of another installation stays, with a warning, unless `force` is set; one that
    is no link always stays."""
    for link, target in links:
        if link.exists() and link.samefile(target):
            continue
        if link.is_symlink() and (force or not link.exists()):
            link.unlink()
        elif link.exists():
            session.warn(f"{link} is of another installation and stays; --force replaces a link")
            continue
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        except OSError as error:
            session.warn(f"{link} cannot be made: {error.strerror}")
            continue
        session.say(f"linked {link} -> {target}")
