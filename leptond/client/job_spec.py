"""From a command line to a job's spec."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence

from leptond.base.usage import UsageError

TYPE_CHECKING = False  # typing takes longer to import than all else here
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

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


def complete(
    spec: Mapping[str, Any], environ: Mapping[str, str], *, export: str | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A spec (fields of JobSpec) with what it takes from here: its directory, the environment that `export`
    names (as in :func:`build_env`; what the spec sets wins), its program by its full path, and the text of a
    script that is copied; and words for the user. The command line and the Python clients send what this
    makes. Raises UsageError."""
    cwd = directory(spec.get("cwd"))
    env = {**build_env(environ, export, ()), **(spec.get("env") or {})}
    made: dict[str, Any] = {**spec, "cwd": cwd}
    notes: tuple[str, ...] = ()
    argv = [str(word) for word in spec["argv"]]
    if not spec.get("shell") and not spec.get("script") and argv:
        program = resolve_command(argv, cwd=cwd, path=env.get("PATH") or environ.get("PATH", os.defpath))
        argv, notes = program.argv, program.notes
        if program.name is not None and not spec.get("name"):
            made["name"] = program.name
        if program.script is not None:
            made["script"] = program.script
    made["argv"] = argv
    if env:
        made["env"] = env
    for word in (*argv, cwd, *env.values()):
        if not is_text(word):
            raise UsageError(f"{word!r} is not UTF-8; arguments, paths and variables must be")
    return made, notes


def directory(named: str | os.PathLike[str] | None) -> str:
    """The absolute path of a directory, by default of this one; links stay as the user sees them. Raises
    UsageError where this one is gone."""
    path = os.fspath(named) if named else "."
    if os.path.isabs(path):  # noqa: PTH117  # pathlib costs milliseconds
        return os.path.normpath(path)
    try:
        return os.path.abspath(path)  # noqa: PTH100
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UsageError(
            f"the directory you are in cannot be used ({why}); cd to another, or name one with -C"
            " (in Python: cwd=)"
        ) from None


def without_script(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The same spec for a daemon that keeps no scripts: the interpreter reads the file when the job
    starts."""
    from leptond.core.jobs import scripts

    made = {key: value for key, value in spec.items() if key != "script"}
    if spec.get("script"):
        made["argv"] = [*scripts.interpreter(str(spec["script"]).encode()), *spec["argv"]]
    return made


def is_text(word: str) -> bool:
    """Return True if a text of the system is UTF-8: JSON carries nothing else."""
    return not any("\ud800" <= char <= "\udfff" for char in word)


def _copied(environ: Mapping[str, str], name: str, option: str) -> str:
    if name not in environ:
        raise UsageError(f"{name!r} is not set here, so it cannot be copied", option=option)
    return environ[name]


class Program:
    """A command as it is sent: the program by its full path, the job's name where the file gives one, the
    text of a script that is to be copied, and words for the user."""

    __slots__ = ("argv", "name", "notes", "script")

    def __init__(
        self,
        argv: list[str],
        name: str | None = None,
        script: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.argv = argv
        self.name = name
        self.script = script
        self.notes = notes


def resolve_command(words: Sequence[str], *, cwd: str, path: str) -> Program:
    """The command with its program as an absolute path.

    A program is looked for on `path`, then as a file in `cwd`, as sbatch does. Of a script for a shell the
    text is sent along, and runs as it is now. Another one that is not executable is given to the interpreter
    of its first line. One that is not found stays as it is: the job may see another machine's view of the
    world when it starts. Raises UsageError.
    """
    program, rest = words[0], list(words[1:])
    found = None if "/" in program else _which(program, path)
    if found is not None:
        return Program([os.path.abspath(found), *rest])  # noqa: PTH100  # links stay: a venv's python is one
    file = os.path.join(cwd, program)  # noqa: PTH118
    if not os.path.isfile(file):  # noqa: PTH113  # also from where one may not look
        return Program([program, *rest])
    from pathlib import Path  # which takes longer to import than the whole of this

    return _of_file(Path(os.path.normpath(file)), rest)


def _which(program: str, path: str) -> str | None:
    """The first file of that name on `path` that may be executed, as ``shutil.which`` finds it."""
    for directory in path.split(os.pathsep) if path else ():
        file = os.path.join(directory, program)  # noqa: PTH118
        if os.path.isfile(file) and os.access(file, os.X_OK):  # noqa: PTH113
            return file
    return None


def _of_file(script: Path, rest: list[str]) -> Program:
    from leptond.core.jobs import scripts

    try:
        with script.open("rb") as file:
            content = file.read(scripts.MAX_SCRIPT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{script} cannot be read: {error.strerror}") from None
    name, first = name_of(str(script)), scripts.interpreter(content)
    executable = os.access(script, os.X_OK)
    marked = content.startswith(b"#!")
    binary = content.startswith(b"\x7fELF")
    if not binary and content.partition(b"\n")[0].endswith(b"\r"):
        mend = shlex.join(["sed", "-i", r"s/\r$//", str(script)])
        raise UsageError(
            f"{script} has DOS line breaks, which no interpreter here reads; mend it with: {mend}"
        )
    if executable and (binary or (marked and not scripts.is_shell(first))):
        return Program([str(script), *rest], name)
    if not (marked or executable or script.suffix in (".sh", ".bash", "")):
        line = f"leptonctl submit -- python {script.name}"
        raise UsageError(f"{script} is not executable; name its interpreter, as in: {line}")
    if not scripts.is_shell(first):
        return Program([*first, str(script), *rest], name)
    try:
        text = content.decode()
        why = "is empty" if not text else "holds a NUL character" if "\0" in text else None
    except UnicodeDecodeError:
        text, why = "", "is not UTF-8"
    if len(content) > scripts.MAX_SCRIPT_BYTES:
        why = f"is larger than {scripts.MAX_SCRIPT_BYTES // 1024} KiB"
    if why is not None:
        note = f"{script} {why}: no copy of it is kept, and it runs as it is when the job starts"
        return Program([*first, str(script), *rest], name, None, () if why == "is empty" else (note,))
    return Program([str(script), *rest], name, text, _about_its_place(script, text))


_OWN_PLACE = re.compile(
    r"^[^#\n]*?(?:(?:dirname|readlink|realpath)[^\n]*?(\$0\b|\$\{0\b)|(\$\{0%|BASH_SOURCE))", re.MULTILINE
)


def _about_its_place(script: Path, text: str) -> tuple[str, ...]:
    """A word about a script that asks where it lies."""
    found = _OWN_PLACE.search(text)
    if found is None:
        return ()
    line = text.count("\n", 0, found.start()) + 1
    note = (
        f"{script.name} looks at its own place in line {line}: a copy of it runs, elsewhere;"
        " $LEPTOND_SCRIPT is where it lies, and the job runs in the directory of the submit"
    )
    return (note,)


def name_of(path: str) -> str | None:
    """A job's name from a file's; None when nothing is left of it."""
    name = _NOT_A_NAME.sub("-", path.rpartition("/")[2]).lstrip(".-")[:128]
    return name or None


def has_directives(text: str) -> bool:
    """Return True if a script has lines that leptonctl reads options from."""
    return _DIRECTIVE.search(text) is not None


_DIRECTIVE = re.compile(r"^#(LEPTON|SBATCH)[ \t]", re.MULTILINE)


class BatchScript:
    """A script as the submit reads it: the `words` of its ``#LEPTON`` lines, those of its ``#SBATCH`` lines,
    and its whole `text`, as far as it was read."""

    __slots__ = ("slurm", "text", "words")

    def __init__(
        self,
        words: list[str],
        slurm: list[str],
        text: str,
    ) -> None:
        self.words = words
        self.slurm = slurm
        self.text = text


SCRIPT_BYTES = 1 << 20


def read_script(script: Path) -> BatchScript:
    """Read the options at the head of a script (its comments before the first command). Raises UsageError
    when a line cannot be read; nothing is found in a file that cannot be read at all."""
    words: list[str] = []
    slurm: list[str] = []
    try:
        with script.open("rb") as file:
            text = file.read(SCRIPT_BYTES).decode("utf-8", "replace")
    except OSError:
        return BatchScript([], [], "")
    try:
        for raw in text.split("\n"):
            line = raw.strip()
            if line and not line.startswith("#"):
                break
            if line.startswith(("#LEPTON ", "#LEPTON\t")):
                words += shlex.split(line[7:], comments=True)
            if line.startswith(("#SBATCH ", "#SBATCH\t")):
                slurm += shlex.split(line[7:], comments=True)
    except ValueError as error:
        raise UsageError(f"{script}: a #LEPTON or #SBATCH line cannot be read: {error}") from None
    return BatchScript(words, slurm, text)


def directives(script: Path, *, ignore: frozenset[str] = frozenset()) -> list[str]:
    """The options in the ``#LEPTON`` and ``#SBATCH`` lines of a script; #LEPTON wins, wherever it stands. The
    job of a script with #SBATCH lines gets Slurm's variables. `ignore` names options of sbatch to leave out.
    Raises UsageError when one cannot be read or honoured."""
    found = read_script(script)
    if not found.slurm:
        return found.words
    from leptond.client import sbatch

    translated = sbatch.translate(found.slurm, skip=ignore)
    settings = [
        word
        for name, value in sbatch.environment(translated.values).items()
        for word in ("--env", f"{name}={value}")
    ]
    return [*settings, *translated.words, *found.words]


def partition(script: Path, *, ignore: frozenset[str] = frozenset()) -> str | None:
    """The partition that a ``#SBATCH`` line of a script asks for, if any. Raises UsageError as
    :func:`directives`."""
    found = read_script(script)
    if not found.slurm:
        return None
    from leptond.client import sbatch

    return (
        None if "partition" in ignore else sbatch.translate(found.slurm, skip=ignore).values.get("partition")
    )


def remarks(script: Path, *, ignore: frozenset[str] = frozenset()) -> list[str]:
    """What the user of a script with ``#SBATCH`` lines should know: the options that are left out, and what
    it uses of Slurm's that leptond does not have. Raises UsageError as :func:`directives`."""
    found = read_script(script)
    if not found.slurm:
        return []
    from leptond.client import sbatch

    left_out = sbatch.translate(found.slurm, skip=ignore).left_out
    first = [f"left out of the script: #SBATCH {', '.join(left_out)}"] if left_out else []
    return first + sbatch.missing(found.text)
