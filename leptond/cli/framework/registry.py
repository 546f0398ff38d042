"""The commands by name: each one's module and its first line of help, known without importing it."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
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
        "why": ("show", "Why a job waits, or how it ended."),
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
        "limits": ("limits", "Limits, current use and past use of users and projects."),
        "drain": ("gpus", "Take GPUs out of service."),
        "undrain": ("gpus", "Put GPUs back into service."),
        "init": ("init", "Write the configuration and the systemd unit."),
        "purge": ("purge", "Forget finished jobs, their output and old events."),
        "db": ("db", "The queue's database, and copies of it."),
        "monitoring": ("monitoring", "Files for Prometheus and Grafana."),
        "token": ("token", "Tokens for TCP and the page: new, list, revoke."),
        "whoami": ("token", "Who you are to the daemon, and your role."),
        "doctor": ("doctor", "Check the installation, and say how to mend it."),
        "completion": ("completion", "Print the completion script of a shell."),
    },
}
"""Each command's module and its first line of help: known without importing it."""

ALIASES = {"ps": "queue", "ls": "queue", "kill": "cancel"}

MODULES = {name: module for section in SECTIONS.values() for name, (module, _) in section.items()}


def load(name: str) -> Any:
    """The command of that name: a declared one, or one of click's own."""
    return getattr(import_module(f"leptond.cli.commands.{MODULES[name]}"), f"{name}_command")
