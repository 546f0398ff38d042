"""From a command line to a job's spec, and from a spec back to the command line that makes it again."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leptond.base.usage import Usage
from leptond.core.jobs.timespec import spell_duration

CARRIED = ("PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV")
"""Variables copied from the caller's environment by default: enough that `python` is the one of the activated
environment, and that its tools are found."""

HIDDEN = "***"
"""The API's stand-in for the value of a variable that looks like a secret."""

_OURS = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "MASTER_PORT")
_OF_THE_SHELL = ("_", "PWD", "OLDPWD", "SHLVL")
_ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
_PRINTABLE = re.compile(r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]*\Z")


def build_env(environ: Mapping[str, str], export: str | None, settings: Sequence[str]) -> dict[str, str]:
    """The environment to send. `export` is None (the default set), ALL, NONE or names; `settings` are
    K=V or K. Raises Usage for a name that is not set."""
    env: dict[str, str] = {}
    word = (export or "").upper()
    if word == "ALL":
        env = {
            name: value
            for name, value in environ.items()
            if _ENV_NAME.match(name)
            and name not in (*_OURS, *_OF_THE_SHELL)
            and not name.startswith("LEPTOND_")
            and is_text(value)
        }
    elif word != "NONE":
        env = {name: environ[name] for name in CARRIED if environ.get(name)}
        for name in (export or "").split(","):
            if name.strip():
                env[name.strip()] = _copied(environ, name.strip(), "--export")
    for setting in settings:
        name, equals, value = setting.partition("=")
        env[name] = value if equals else _copied(environ, name, "--env")
    return env


def is_text(word: str) -> bool:
    """Return True if a text of the system is UTF-8: JSON carries nothing else."""
    return not any("\ud800" <= char <= "\udfff" for char in word)


def _copied(environ: Mapping[str, str], name: str, option: str) -> str:
    if name not in environ:
        raise Usage(f"{name!r} is not set here, so it cannot be copied", option=option)
    return environ[name]


def resolve_command(words: Sequence[str], *, cwd: Path, path: str) -> tuple[list[str], str | None]:
    """The command with its program as an absolute path, and the job's name where the file gives one.

    A program is looked for on `path`, then as a file in `cwd`, as sbatch does. A script that is not
    executable is given to the interpreter of its first line, or to /bin/sh. One that is not found stays
    as it is: the job may see another machine's view of the world when it starts. Raises Usage.
    """
    from shutil import which

    program, rest = words[0], list(words[1:])
    found = None if "/" in program else which(program, path=path)
    if found is not None:
        return [os.path.abspath(found), *rest], None  # noqa: PTH100  # links stay: a venv's python is one
    file = cwd / program
    if not file.is_file():
        return [program, *rest], None
    script = os.path.normpath(file)
    return [*_interpreter(Path(script)), script, *rest], name_of(script)


def _interpreter(script: Path) -> list[str]:
    """The words to put before a script for execve(2) to run it: none where the kernel can."""
    try:
        with script.open("rb") as file:
            first = file.readline(512)
    except OSError as error:
        raise Usage(f"{script} cannot be read: {error.strerror}") from None
    executable = os.access(script, os.X_OK)
    if first.startswith(b"#!"):
        # the kernel hands over everything behind the interpreter as one argument
        return [] if executable else os.fsdecode(first[2:]).strip().split(None, 1)
    if executable and first.startswith(b"\x7fELF"):
        return []
    if executable or script.suffix in (".sh", ".bash", ""):
        return ["/bin/sh"]
    raise Usage(
        f"{script} is not executable; name its interpreter, as in: leptonctl submit -- python {script.name}"
    )


def name_of(path: str) -> str | None:
    """A job's name from a file's; None when nothing is left of it."""
    name = _NOT_A_NAME.sub("-", Path(path).name).lstrip(".-")[:128]
    return name or None


def directives(script: Path, *, ignore: frozenset[str] = frozenset()) -> list[str]:
    """The options in the ``#LEPTON`` and ``#SBATCH`` lines at the head of a script (its comments before the
    first command); #LEPTON wins, wherever it stands. `ignore` names options of sbatch to leave out. Raises
    Usage when one cannot be read or honoured."""
    words: list[str] = []
    slurm: list[str] = []
    try:
        with script.open("rb") as file:
            for raw in file:
                line = raw.decode("utf-8", "replace").strip()
                if line and not line.startswith("#"):
                    break
                if line.startswith(("#LEPTON ", "#LEPTON\t")):
                    words += shlex.split(line[7:], comments=True)
                if line.startswith(("#SBATCH ", "#SBATCH\t")):
                    slurm += shlex.split(line[7:], comments=True)
    except ValueError as error:
        raise Usage(f"{script}: a #LEPTON or #SBATCH line cannot be read: {error}") from None
    except OSError:
        return []
    if slurm:
        from leptond.client.sbatch import translate

        return [*translate(slurm, skip=ignore), *words]
    return words


def quote(word: str) -> str:
    """A word as a shell takes it back; control characters are spelled, so that it is safe to print."""
    if _PRINTABLE.match(word):
        return shlex.quote(word)
    spelled = "".join(_spell(char) for char in word)
    return f"$'{spelled}'"


def _spell(char: str) -> str:
    if char in "\\'":
        return "\\" + char
    if _PRINTABLE.match(char):
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def submit_words(job: Mapping[str, Any]) -> list[str]:
    """The words after ``leptonctl`` that submit `job` again just as it was. A member of an array comes
    back alone, under its own index."""
    spec: Mapping[str, Any] = job["spec"]
    words = ["submit"]

    def add(option: str, value: object) -> None:
        if value is not None:
            words.extend((option, str(value)))

    def add_time(option: str, seconds: float | None) -> None:
        add(option, None if seconds is None else spell_duration(seconds))

    add("--name", spec.get("name") or job["name"])
    add("--gpus", spec.get("gpus") or None)
    add("--gpu-type", spec.get("gpu_type"))
    add("--gpu-mem", spec.get("gpu_memory_bytes"))
    words += [f"--{flag}" for flag in ("preemptible", "urgent") if spec.get(flag)]
    if spec.get("exclusive"):
        words.append("--exclusive")
    queue = spec.get("queue")
    add("--queue", None if queue == "default" else queue)
    add("--priority", spec.get("priority") or None)
    add_time("--time", spec.get("time_limit_s"))
    add_time("--grace", spec.get("grace_s"))
    warn = spec.get("warn_signal")
    if warn:
        add("--signal", f"{warn['signal']}@{spell_duration(warn['before_s'])}")
    add_time("--no-progress", spec.get("no_progress_s"))
    add("--retries", spec.get("retries"))
    add_time("--retry-delay", spec.get("retry_delay_s"))
    add_time("--retry-max-delay", spec.get("retry_max_delay_s"))
    add("--retry-on", ",".join(spec.get("retry_on") or []) or None)
    add("--no-retry-on", ",".join(spec.get("no_retry_on") or []) or None)
    if spec.get("cold"):
        words.append("--cold")
    if spec.get("fail_fast") is False:
        words.append("--no-fail-fast")
    if spec.get("requeue") is False:
        words.append("--no-requeue")
    add("--after", ",".join(spec.get("after") or []) or None)
    add("--after-any", ",".join(spec.get("after_any") or []) or None)
    add("--after-fail", ",".join(spec.get("after_fail") or []) or None)
    index = job.get("array_index")
    add("--array", spec.get("array") if index is None else index)
    if spec.get("hold"):
        words.append("--hold")
    add("--begin", spec.get("begin_at"))
    add("--log-max", spec.get("log_max_bytes"))
    add("--output", spec.get("output"))
    add("--track", ",".join(spec.get("track") or []) or None)
    add("--project", spec.get("project"))
    for name, value in (spec.get("params") or {}).items():
        add("--param", f"{name}={value}")
    for name, value in (spec.get("labels") or {}).items():
        add("--label", f"{name}={value}")
    add("--chdir", spec.get("cwd"))
    add("--export", "NONE")
    for name, value in (spec.get("env") or {}).items():
        # the API does not give secrets away: the line takes them from the shell that runs it
        add("--env", name if value == HIDDEN else f"{name}={value}")
    if spec.get("shell"):
        words.append("--shell")
    return [*words, "--", *spec["argv"]]


def submit_line(job: Mapping[str, Any]) -> str:
    """The same, as a line for a shell."""
    return " ".join(["leptonctl", *map(quote, submit_words(job))])
