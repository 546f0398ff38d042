"""`leptonctl`: the command line of leptond. Each command is imported only when it is used, and none of
them imports the daemon."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from leptond import __version__
from leptond.cli.session import Session, shared_options

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Run": {
        "submit": ("submit", "Queue a command or a script."),
        "run": ("run", "Queue a command, show its output and leave with its exit code."),
        "wait": ("wait", "Wait for jobs to end; leave with their exit code."),
    },
    "Look": {
        "status": ("status", "What runs, what waits and why, and whether all is well."),
        "queue": ("queue", "The jobs that run or wait, in queue order."),
        "plan": ("plan", "Who starts when, on which GPUs."),
        "show": ("show", "Everything about one job."),
        "why": ("show", "Why a job stands where it stands."),
        "logs": ("logs", "The output of a job."),
        "history": ("queue", "The jobs that have ended, newest first."),
        "events": ("events", "What happened, as it was recorded."),
        "export": ("export", "Jobs as CSV, JSON lines or Parquet."),
        "top": ("top", "GPUs, queue and output, live."),
        "dashboard": ("dashboard", "The address of the page."),
        "budget": ("budget", "What users and projects may spend."),
        "cost": ("cost", "Where GPU time went, what it cost and what would save most."),
    },
    "Change": {
        "cancel": ("control", "Cancel jobs."),
        "retry": ("control", "Run ended jobs again, as copies; skip a backoff."),
        "hold": ("control", "Keep pending jobs from starting."),
        "release": ("control", "Let held jobs start again."),
        "edit": ("control", "Change a job's priority, name, limits."),
        "tune": ("tune", "Turn a running job's knobs, such as its learning rate."),
    },
    "Machine": {
        "gpus": ("gpus", "The GPUs and who has them."),
        "queues": ("queues", "The queues: list, add, set, remove."),
        "limits": ("limits", "What users and projects may have, have and have had; caps."),
        "drain": ("gpus", "Take GPUs out of service."),
        "undrain": ("gpus", "Put GPUs back into service."),
        "init": ("init", "Write the configuration and the systemd unit."),
        "purge": ("purge", "Forget finished jobs, their output and old events."),
        "db": ("db", "The queue's database, and copies of it."),
        "doctor": ("doctor", "Check the installation, and say how to mend it."),
        "completion": ("completion", "Print the completion script of a shell."),
    },
}
"""Each command's module and its first line of help: known without importing it."""

ALIASES = {"ps": "queue", "kill": "cancel"}

_MODULES = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called; it turns failures into messages and exit
    codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in _MODULES:
            return None
        module = import_module(f"leptond.cli.{_MODULES[name][0]}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if args and not name.startswith("-") and self.get_command(ctx, name) is None:
            from difflib import get_close_matches

            near = get_close_matches(name, [*_MODULES, *ALIASES], n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {name!r}.{meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])

    def invoke(self, ctx: click.Context) -> Any:
        # imported here: an entry point that only prints help needs no HTTP
        from leptond.client import ClientError

        try:
            return super().invoke(ctx)
        except ClientError as error:
            ctx.ensure_object(Session).report(error)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo(err=True)
            ctx.exit(130)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 ok, 1 refused or failed, 2 usage, 3 not found, 4 wrong state, 5 not permitted, "
    "69 no daemon, 75 wait --timeout ran out. run and wait leave with the job's own code, 128+N for signal "
    "N, 124 for its time limit, 130 when it was cancelled.",
)
@click.version_option(__version__, prog_name="leptonctl")
@shared_options(hidden=False)
@click.pass_context
def group(ctx: click.Context) -> None:
    """leptonctl queues training jobs on this machine's GPUs and looks after them.

    The daemon is found by --host, by LEPTOND_HOST (unix:///path or http://host:port), or by its socket:
    the user's own first, then the machine's.
    """
    ctx.call_on_close(ctx.ensure_object(Session).close)


def main() -> None:
    """The entry point."""
    for stream in (sys.stdout, sys.stderr):
        # a name in an odd encoding must not end the command that prints it
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    group(prog_name="leptonctl", complete_var="_LEPTONCTL_COMPLETE")
