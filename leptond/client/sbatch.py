"""The ``#SBATCH`` lines of a script as leptonctl's options: the part of sbatch(1) that one machine can
honour. What it cannot honour is refused by name, never passed over. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from leptond.base.usage import UsageError
from leptond.core.jobs import fields
from leptond.core.jobs.field import Kind

Words = list[str]


def _as(option: str) -> Callable[[str], Words]:
    return lambda value: [option, value]


def _flag(option: str) -> Callable[[str], Words]:
    return lambda _: [option]


def _nothing(_: str) -> Words:
    return []


def _gres(value: str) -> Words:
    """``gpu:2``, ``gpu:a100:2``, ``gpu``."""
    name, *more = value.split(":")
    if name != "gpu" or len(more) > 2 or "," in value:
        raise ValueError("only gpu, as in gpu:2 or gpu:h100:2")
    count = more[-1] if more and more[-1].isdecimal() else "1"
    kind = more[0] if len(more) == 2 or (more and not more[-1].isdecimal()) else None
    return ["--gpus", count, *(["--gpu-type", kind] if kind else [])]


def _gpus(value: str) -> Words:
    """``2`` or ``a100:2``."""
    kind, _, count = value.rpartition(":")
    if not count.isdecimal():
        raise ValueError("a number, or type:number")
    return ["--gpus", count, *(["--gpu-type", kind] if kind else [])]


def _one(value: str) -> Words:
    """Nodes: there is one."""
    if value not in ("1", "1-1"):
        raise ValueError("there is one machine")
    return []


def _output(value: str) -> Words:
    """leptond keeps the output in any case; here it is also put where the script says."""
    return [] if value == "/dev/null" else ["--output", value]


def _mail(value: str) -> Words:
    if value.upper() in ("NONE", ""):
        return []
    raise ValueError("leptond sends no mail; follow it with leptonctl wait, or events -f")


_ONE_OUTPUT = "standard error goes with the output; leave it out"

_SAME = {
    words.sbatch: (_flag if field.kind in (Kind.FLAG, Kind.OFF) else _as)(words.name)
    for field, words in fields.OPTIONS
    if words.sbatch is not None
}

OPTIONS: dict[str, Callable[[str], Words]] = {
    **_SAME,
    "export": _as("--export"),
    "gpus": _gpus,
    "gpus-per-node": _gpus,
    "gres": _gres,
    "mail-type": _mail,
    "nodes": _one,
    "ntasks": _one,
    "ntasks-per-node": _one,
    "open-mode": _nothing,
    "output": _output,
    "requeue": _nothing,
    "signal": lambda value: ["--signal", value.removeprefix("B:").removeprefix("R:")],
}
"""Long option of sbatch(1) to what it means here. ``--open-mode`` and ``--requeue`` ask for what is so
anyway."""

REFUSED = {
    "cpus-per-task": "leptond gives out GPUs, not cores; leave it out",
    "error": _ONE_OUTPUT,
    "exclusive": "leave it out: a job's GPUs are its own unless it shares them with --gpu-mem",
    "input": "a job's standard input is empty",
    "mem": "leptond does not limit host memory; leave it out",
    "mem-per-cpu": "leptond does not limit host memory; leave it out",
}
"""Options that scripts often hold and one machine does not honour, with what to do."""

SHORT = {
    "A": "account",
    "a": "array",
    "b": "begin",
    "c": "cpus-per-task",
    "D": "chdir",
    "d": "dependency",
    "e": "error",
    "G": "gpus",
    "H": "hold",
    "i": "input",
    "J": "job-name",
    "N": "nodes",
    "n": "ntasks",
    "o": "output",
    "p": "partition",
    "t": "time",
}

_FLAGS = frozenset({"exclusive", "hold", "no-requeue", "requeue"})
_LONG = re.compile(r"^--([a-z][a-z-]*)(?:=(.*))?\Z", re.DOTALL)
_SHORT_FORM = re.compile(r"^-([A-Za-z])(.*)\Z", re.DOTALL)


def translate(words: Sequence[str], *, skip: frozenset[str] = frozenset()) -> Words:
    """The options of ``#SBATCH`` lines as leptonctl's own, in order. `skip` are long names of options that
    the user chose to leave out. Raises UsageError, which names the option.

    >>> translate(["--gres=gpu:a100:2", "-t", "1-12:00:00", "-Jllama"])
    ['--gpus', '2', '--gpu-type', 'a100', '--time', '1-12:00:00', '--name', 'llama']
    """
    found: Words = []
    rest = list(words)
    while rest:
        name, value, spelled = _next(rest)
        if name in skip:
            continue
        if name not in OPTIONS:
            reason = REFUSED.get(name, "leptond does not know it")
            raise UsageError(
                f"#SBATCH {spelled} cannot be honoured: {reason} (--ignore-sbatch {name} leaves it out)"
            )
        try:
            found += OPTIONS[name](value)
        except ValueError as error:
            raise UsageError(f"#SBATCH {spelled} {value}: {error}") from None
    return found


def _next(rest: list[str]) -> tuple[str, str, str]:
    """Take one option off the front: its long name, its value, and how it was spelled."""
    word = rest.pop(0)
    long, short = _LONG.match(word), _SHORT_FORM.match(word)
    if long is not None:
        name, value = long[1], long[2]
        spelled = f"--{name}"
    elif short is not None and short[1] in SHORT:
        name, value = SHORT[short[1]], short[2].removeprefix("=") or None
        spelled = f"-{short[1]}"
    else:
        raise UsageError(f"#SBATCH {word} is not an option of sbatch that leptond knows")
    if name in _FLAGS:
        return name, value or "", spelled
    if value is None:
        if not rest:
            raise UsageError(f"#SBATCH {spelled} has no value")
        value = rest.pop(0)
    return name, value, spelled
