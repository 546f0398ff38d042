"""The command `leptond`: run the daemon, look after its configuration and database, see a demonstration."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from leptond import __version__
from leptond.base.errors import StartRefused, start_refused
from leptond.base.paths import Places, data_dir, system_places, user_places
from leptond.config import Settings, load


class _Refusing(click.Group):
    """Prints why a start was refused, without a traceback, and leaves with its exit code."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except StartRefused as refusal:
            click.echo(f"leptond: {refusal}", err=True)
            ctx.exit(refusal.exit_code)


@click.group(cls=_Refusing, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="leptond")
def main() -> None:
    """leptond gives the GPUs of this machine to queued training jobs."""


Callback = TypeVar("Callback", bound=Callable[..., None])


def _place_options(command: Callback) -> Callback:
    for option in (
        click.option("--system", is_flag=True, help="Use the system's directories (/etc, /var/lib, /run)."),
        click.option(
            "--state-dir", type=click.Path(path_type=Path), help="Where the queue and the logs are kept."
        ),
        click.option("--config", type=click.Path(path_type=Path), help="The configuration file (TOML)."),
    ):
        command = option(command)
    return command


def _places(config: Path | None, state_dir: Path | None, system: bool, socket: Path | None = None) -> Places:
    # systemd names the state directory of a system unit to it
    places = system_places() if system or os.environ.get("STATE_DIRECTORY") else user_places()
    if config is not None:
        places = dataclasses.replace(places, config_file=config.absolute())
    if state_dir is not None:
        state_dir = state_dir.absolute()
        # a private state directory gets a socket and a token of its own
        places = dataclasses.replace(
            places,
            state_dir=state_dir,
            socket=state_dir / "leptond.sock",
            more_sockets=(),
            token_file=state_dir / "token",
        )
    if socket is not None:
        places = dataclasses.replace(places, socket=socket.absolute(), more_sockets=())
    return places


@main.command("spawn-server")
@click.argument("socket", type=click.Path(path_type=Path))
def spawn_server(socket: Path) -> None:
    """Start the processes of jobs in this unit, for a daemon in another one (engine.spawner) that asks for it
    at SOCKET."""
    program = Path(__file__).parent / "engines" / "spawn_server.py"
    os.execv(sys.executable, [sys.executable, "-I", "-S", "-X", "utf8", str(program), str(socket.absolute())])


@main.command()
@_place_options
@click.option("--socket", type=click.Path(path_type=Path), help="The Unix socket to serve.")
@click.option("--listen", metavar="HOST:PORT", help="Also serve TCP there, with a token (off by default).")
@click.option("--simulate-gpus", type=click.IntRange(1, 64), metavar="N", help="Use N simulated GPUs.")
@click.option(
    "--unsafe-failpoints", is_flag=True, hidden=True, help="For fault tests only (docs/reliability.md)."
)
def run(
    config: Path | None,
    state_dir: Path | None,
    system: bool,
    socket: Path | None,
    listen: str | None,
    simulate_gpus: int | None,
    unsafe_failpoints: bool,
) -> None:
    """Run the daemon in the foreground until SIGTERM. Running jobs go on without it."""
    _import_lightly()
    import traceback

    from leptond.daemon.app import serve
    from leptond.daemon.logging import configure
    from leptond.store import DATABASE, StoreError

    places = _places(config, state_dir, system, socket)
    settings = load(places.config_file, required=config is not None)
    replace = msgspec.structs.replace
    if listen is not None:
        settings = replace(settings, http=replace(settings.http, listen=listen))
    if simulate_gpus is not None:
        settings = replace(settings, gpus=replace(settings.gpus, backend="simulated", simulate=simulate_gpus))
    if unsafe_failpoints:
        _arm_failpoints()
    configure(settings.log)
    try:
        asyncio.run(serve(settings, places))
    except StoreError as error:
        raise error.refusal(places.state_dir / DATABASE) from error
    except OSError as error:
        raise start_refused("it cannot start", error) from None
    except BaseExceptionGroup as group:
        refusals = list(_refusals(group, places.state_dir / DATABASE))
        if not refusals:
            raise
        if not group.subgroup((StartRefused, StoreError)):
            traceback.print_exception(group)  # an error of the system that nobody has foreseen
        raise refusals[0] from None


def _import_lightly() -> None:
    """Import the daemon without what its libraries take in and it has no use for: rich, with which structlog
    would draw tracebacks (3 MB), and the machine's certificates, which aiohttp reads twice on its import
    (2 MB and a tenth of the start; webhooks read them when there is one)."""
    sys.modules["rich"] = None  # type: ignore[assignment]
    certificates = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    os.environ.update(dict.fromkeys(certificates, os.devnull))
    try:
        import leptond.daemon.app  # noqa: F401
    finally:
        for name, value in certificates.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _arm_failpoints() -> None:
    from leptond.base import failpoints

    try:
        failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    except failpoints.BadFailpoint as error:
        raise StartRefused(f"{failpoints.VARIABLE}: {error}", 78) from None


def _refusals(error: BaseException, database: Path) -> Iterator[StartRefused]:
    from leptond.store import StoreError

    if isinstance(error, StartRefused):
        yield error
    elif isinstance(error, StoreError):
        yield error.refusal(database)
    elif isinstance(error, OSError):
        yield start_refused("it cannot go on", error)
    elif isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _refusals(inner, database)


@main.command("check-config")
@_place_options
def check_config(config: Path | None, state_dir: Path | None, system: bool) -> None:
    """Check the configuration, and print it as it counts (with defaults and environment)."""
    places = _places(config, state_dir, system)
    settings = load(places.config_file, required=config is not None)
    found = "read" if places.config_file.exists() else "not there, so these are the defaults"
    click.echo(f"# {places.config_file}: {found}")
    click.echo(_toml(settings))


def _toml(settings: Settings) -> str:
    """The settings as TOML: tables of plain values, whose JSON form TOML shares. What is not set stands as a
    comment: TOML has no null."""
    lines = []
    for section in settings.__struct_fields__:
        lines.append(f"[{section}]")
        for key, value in msgspec.structs.asdict(getattr(settings, section)).items():
            text = msgspec.json.encode(value).decode()
            lines.append(f"# {key} is not set" if value is None else f"{key} = {text}")
        lines.append("")
    return "\n".join(lines)


@main.command()
@_place_options
def migrate(config: Path | None, state_dir: Path | None, system: bool) -> None:
    """Bring the database to this version's schema (the daemon does it by itself at its start)."""
    from leptond.base.locks import prepare_state_dir, state_lock
    from leptond.recovery.restored_database import guard
    from leptond.store import DATABASE, StoreError
    from leptond.store.database.examine import examine
    from leptond.store.database.migrate import newest
    from leptond.store.database.offline import migrate_file

    places = _places(config, state_dir, system)
    prepare_state_dir(places.state_dir)
    with state_lock(places.state_dir):
        guard(places.state_dir)
        file = places.state_dir / DATABASE
        examine(file, newest(data_dir("migrations")))
        try:
            applied, now_at = migrate_file(file, data_dir("migrations"))
        except StoreError as error:
            raise error.refusal(file) from None
        file.chmod(0o600)
    click.echo(
        f"{file}: schema {now_at}, " + (f"applied {', '.join(applied)}" if applied else "nothing to do")
    )


@main.command()
@_place_options
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Begin from this backup, also when the database could be used.",
)
@click.option("--dry-run", is_flag=True, help="Say what would come of it; change nothing.")
@click.option(
    "--adopt-copy",
    is_flag=True,
    help="Make this state directory, a copy of another, the one in which the queue goes on.",
)
def recover(
    config: Path | None,
    state_dir: Path | None,
    system: bool,
    source: Path | None,
    dry_run: bool,
    adopt_copy: bool,
) -> None:
    """Rebuild a damaged, missing or older database around the jobs that run. No job is touched."""
    from leptond.base.locks import prepare_state_dir, state_lock
    from leptond.recovery.copied_state import adopt_copy as adopt
    from leptond.recovery.rebuild import recover as mend
    from leptond.recovery.rebuild import report

    places = _places(config, state_dir, system)
    prepare_state_dir(places.state_dir)
    if adopt_copy and (source is not None or dry_run):
        raise click.UsageError("--adopt-copy goes with no other option but --state-dir")
    with state_lock(places.state_dir):
        if adopt_copy:
            for sentence in adopt(places.state_dir):
                click.echo(sentence)
            return
        plan = mend(places.state_dir, source=source.absolute() if source else None, dry_run=dry_run)
    report(plan, places.state_dir, dry_run=dry_run, say=click.echo)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as data.")
@click.option("--simulate-gpus", type=click.IntRange(2, 16), metavar="N", help="Use N simulated GPUs.")
@click.option("--keep", is_flag=True, help="Keep the demonstration's files, and say where they are.")
def demo(as_json: bool, simulate_gpus: int | None, keep: bool) -> None:
    """Train small models for real: on a private daemon, with faults, retries and limits (about 2 minutes)."""
    from leptond.demo import run_demo

    sys.exit(run_demo(as_json=as_json, simulate_gpus=simulate_gpus, keep=keep))


if __name__ == "__main__":
    main()
