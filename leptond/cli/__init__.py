"""`leptonctl`: the command line of leptond. Each command is imported only when it is used, and none of
them imports the daemon."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Run": {
        "submit": ("submit", "Queue a command or a script."),
        "sweep": ("sweep", "Try many configurations of a command; stop the bad ones early."),
        "run": ("run", "Queue a command, show its output and leave with its exit code."),
        "wait": ("wait", "Wait for jobs to end; leave with their exit code."),
    },
    "Look": {
        "status": ("status", "What runs, what waits and why, and whether all is well."),
        "queue": ("queue", "The jobs that run or wait, in queue order."),
        "plan": ("plan", "Who starts when, on which GPUs."),
        "sweeps": ("sweep", "The sweeps, or how the trials of one do."),
        "show": ("show", "Everything about one job."),
        "why": ("show", "Why a job stands where it stands."),
        "logs": ("logs", "The output of a job."),
        "history": ("queue", "The jobs that have ended, newest first."),
        "events": ("events", "What happened, as it was recorded."),
        "export": ("export", "Jobs as CSV, JSON lines or Parquet."),
        "top": ("top", "GPUs, queue and output, live."),
        "dashboard": ("dashboard", "The address of the page."),
        "tensorboard": ("tensorboard", "TensorBoard over a job's runs."),
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
        "monitoring": ("monitoring", "Files for Prometheus and Grafana."),
        "doctor": ("doctor", "Check the installation, and say how to mend it."),
        "completion": ("completion", "Print the completion script of a shell."),
    },
}
"""Each command's module and its first line of help: known without importing it."""

ALIASES = {"ps": "queue", "ls": "queue", "kill": "cancel"}

MODULES = {name: module for section in SECTIONS.values() for name, (module, _) in section.items()}

_COMPLETE = "_LEPTONCTL_COMPLETE"


def load(name: str) -> Any:
    """The command of that name: a declared one, or one of click's own."""
    return getattr(import_module(f"leptond.cli.commands.{MODULES[name]}"), f"{name}_command")


def main() -> None:
    """The entry point. A call that is spelled plainly is carried out at once; for all others, click is
    imported, which takes several times as long as a bare interpreter."""
    for stream in (sys.stdout, sys.stderr):
        # a name in an odd encoding must not end the command that prints it
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    if _COMPLETE not in os.environ:
        code = _at_once(sys.argv[1:])
        if code is not None:
            sys.exit(code)
    elif os.environ[_COMPLETE].startswith("bash"):
        import_module("leptond.cli.commands.completion")  # has a bash completion of its own
    from leptond.cli.framework.click_bridge import group

    group(prog_name="leptonctl", complete_var=_COMPLETE)


def program() -> None:
    """The program `leptonctl`: :func:`main` without the end of the interpreter, which takes as long as a
    request. Everything is closed by then; only what was printed has to go out."""
    try:
        main()
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise  # a message, which the interpreter prints
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # closed, broken or not there at all
                stream.flush()
        os._exit(end.code or 0)


def _at_once(words: list[str]) -> int | None:
    """Carries a call out without click; its exit code. None when that has to look at it."""
    from leptond.cli.framework.declare import SHARED, Command, Usage, parse, read
    from leptond.cli.framework.session import Session

    before = read(SHARED, words, interspersed=False)
    if before is None or not before.rest:
        return None
    name, *rest = before.rest
    name = ALIASES.get(name, name)
    command = load(name) if name in MODULES else None
    if not isinstance(command, Command):
        return None
    session = Session()
    try:
        found = parse(command, rest)
        if found is None:
            return None
        values, shared = found
        for key, value in (*before.raw.items(), *shared.items()):
            if value:  # only ever switched on: `--json show 3` and `show --json 3` are the same
                setattr(session, key, value)
        return session.run(lambda: command.function(session, **values))
    except Usage as usage:
        from leptond.cli.framework.click_bridge import explain

        return explain(command, usage)
    except BrokenPipeError:
        # who read our output has gone, as `head` does: the interpreter's last flush must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
