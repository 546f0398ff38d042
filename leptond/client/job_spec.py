"""From a command line to a job's spec."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from leptond.base.usage import UsageError

CARRIED = ("PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV")
"""Variables copied from the caller's environment by default: enough that `python` is the one of the activated
environment, and that its tools are found."""

_OURS = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "MASTER_PORT")
_OF_THE_SHELL = ("_", "PWD", "OLDPWD", "SHLVL")
_ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def build_env(environ: Mapping[str, str], export: str | None, settings: Sequence[str]) -> dict[str, str]:
    """The environment to send. `export` is None (the default set), ALL, NONE or names; `settings` are
    K=V or K. Raises UsageError for a name that is not set."""
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
        raise UsageError(f"{name!r} is not set here, so it cannot be copied", option=option)
    return environ[name]


def resolve_command(words: Sequence[str], *, cwd: Path, path: str) -> tuple[list[str], str | None]:
    """The command with its program as an absolute path, and the job's name where the file gives one.

    A program is looked for on `path`, then as a file in `cwd`, as sbatch does. A script that is not
    executable is given to the interpreter of its first line, or to /bin/sh. One that is not found stays
    as it is: the job may see another machine's view of the world when it starts. Raises UsageError.
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
        raise UsageError(f"{script} cannot be read: {error.strerror}") from None
    executable = os.access(script, os.X_OK)
    if first.startswith(b"#!"):
        # the kernel hands over everything behind the interpreter as one argument
        return [] if executable else os.fsdecode(first[2:]).strip().split(None, 1)
    if executable and first.startswith(b"\x7fELF"):
        return []
    if executable or script.suffix in (".sh", ".bash", ""):
        return ["/bin/sh"]
    raise UsageError(
        f"{script} is not executable; name its interpreter, as in: leptonctl submit -- python {script.name}"
    )


def name_of(path: str) -> str | None:
    """A job's name from a file's; None when nothing is left of it."""
    name = _NOT_A_NAME.sub("-", Path(path).name).lstrip(".-")[:128]
    return name or None


def directives(script: Path, *, ignore: frozenset[str] = frozenset()) -> list[str]:
    """The options in the ``#LEPTON`` and ``#SBATCH`` lines at the head of a script (its comments before the
    first command); #LEPTON wins, wherever it stands. `ignore` names options of sbatch to leave out. Raises
    UsageError when one cannot be read or honoured."""
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
        raise UsageError(f"{script}: a #LEPTON or #SBATCH line cannot be read: {error}") from None
    except OSError:
        return []
    if slurm:
        from leptond.client.sbatch import translate

        return [*translate(slurm, skip=ignore), *words]
    return words
