"""Warm starts: which jobs may share a process that has their imports done, and which of those processes to
keep. Pure. What a command has to be for it is in :mod:`leptond.core.python_command`; conditions that only
that process can check are in :mod:`leptond.engines.warm_runner`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from leptond.core import python_command

WARM = "warm"
NOT_YET = "no warm process of its interpreter and environment stood ready"
OFF = "warm starts are off"
ASKED = "the job asked for it"
NO_ANSWER = "its warm process did not answer"
SUBMITTERS = "jobs run as their submitters, which start warm only where cgroups keep them together"
CHANGED = "packages have changed on disk"
LEARNED = "not as learned"
"""Begins the reason of a job that would not have had the imports that its warm process has learned."""


class WarmProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A warm process: its environment key, when it last served (boot time), and its memory."""

    key: str
    used_at: float
    size_bytes: int


def environment_key(python: str, env: Mapping[str, str]) -> str:
    """Return what jobs that may share a warm process have in common: the interpreter's path and the variables
    that are read without any trace."""
    seen = [f"{name}={value}" for name, value in sorted(python_command.unseen(env).items())]
    return "\0".join([python, *seen])


def base_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that a warm process is prepared in: without any visible GPU or attempt."""
    shared = {name: value for name, value in env.items() if not python_command.is_own(name)}
    return {**shared, "CUDA_VISIBLE_DEVICES": ""}


def processes_to_stop(
    processes: Iterable[WarmProcess], *, now: float, idle_s: float, most: int, most_bytes: int
) -> list[str]:
    """Return the keys of warm processes to stop: unused for `idle_s`, or too many or too large together, the
    least recently used first."""
    left = sorted(processes, key=lambda one: one.used_at)
    stopped = [one.key for one in left if now - one.used_at >= idle_s]
    left = [one for one in left if now - one.used_at < idle_s]
    while left and (len(left) > most or sum(one.size_bytes for one in left) > most_bytes):
        stopped.append(left.pop(0).key)
    return stopped


def cold_reason(why: str) -> str:
    """Return the reason as it is stored with the attempt."""
    return f"cold: {why}"
