"""The ``#SBATCH`` lines of a script as leptonctl's options: the part of sbatch(1) that one machine can
honour. What it cannot honour is refused by name, all of it at once, never passed over. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

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


def _one_node(value: str) -> Words:
    if value not in ("1", "1-1"):
        raise ValueError("there is one machine")
    return []


def _one_task(value: str) -> Words:
    if value != "1":
        raise ValueError("a job is one task; start its ranks with torchrun, or with --nproc")
    return []


def _output(value: str) -> Words:
    """leptond keeps the output in any case; here it is also put where the script says."""
    return [] if value == "/dev/null" else ["--output", value]


def _mem(value: str) -> Words:
    """Megabytes, unless a unit is said; 0 asks for all there is.

    >>> _mem("4000"), _mem("64G"), _mem("0")
    (['--mem', '4000M'], ['--mem', '64G'], [])
    """
    if value.strip("0") == "":
        return []
    return ["--mem", f"{value}M" if value.isdecimal() else value]


def _mail(value: str) -> Words:
    if value.upper() in ("NONE", ""):
        return []
    raise ValueError("leptond sends no mail; follow it with leptonctl wait, or events -f")


_ONE_OUTPUT = "standard error goes with the output"

_PER_JOB = "say it for the whole job: --cpus-per-task, --mem"

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
    "mem": _mem,
    "mail-type": _mail,
    "nodes": _one_node,
    "ntasks": _one_task,
    "ntasks-per-node": _one_task,
    "output": _output,
    "requeue": _nothing,
    "signal": lambda value: ["--signal", value.replace("R:", "", 1)],
}
"""Long option of sbatch(1) to what it means here. ``--requeue`` asks for what is so anyway."""

REFUSED = {
    "constraint": "there is one machine; --gpu-type asks for a kind of GPU",
    "cpus-per-gpu": _PER_JOB,
    "error": _ONE_OUTPUT,
    "exclusive": "a job's GPUs are its own unless it shares them with --gpu-mem",
    "input": "a job's standard input is empty",
    "mem-per-cpu": _PER_JOB,
    "mem-per-gpu": _PER_JOB,
    "nodelist": "there is one machine",
    "qos": "there is none; --priority and queues take its place",
}
"""Options that scripts often hold and one machine does not honour, with what to do."""

SHORT = {
    "A": "account",
    "a": "array",
    "b": "begin",
    "C": "constraint",
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
    "q": "qos",
    "t": "time",
    "w": "nodelist",
}

_FLAGS = frozenset(
    {
        "contiguous", "exclusive", "get-user-env", "hold", "no-kill", "no-requeue", "overcommit",
        "oversubscribe", "parsable", "quiet", "reboot", "requeue", "spread-job", "test-only", "use-min-nodes",
        "verbose", "wait",
    }
)  # fmt: skip
_LONG = re.compile(r"^--([a-z][a-z-]*)(?:=(.*))?\Z", re.DOTALL)
_SHORT_FORM = re.compile(r"^-([A-Za-z])(.*)\Z", re.DOTALL)

ALL = "all"
"""In place of a name: whatever cannot be honoured is left out."""


class Translation(NamedTuple):
    """The options of ``#SBATCH`` lines. `words` are leptonctl's own; `left_out` are the options that the
    user chose to leave out, as they are spelled; `values` is what the script says of all, by long name."""

    words: Words
    left_out: list[str]
    values: dict[str, str]


def translate(words: Sequence[str], *, skip: frozenset[str] = frozenset()) -> Translation:
    """Translate the options of ``#SBATCH`` lines, in order. `skip` are long names of options that the user
    chose to leave out, or ALL. Raises UsageError, which names every option that cannot be honoured.

    >>> translate(["--gres=gpu:a100:2", "-t", "1-12:00:00", "-Jllama"]).words
    ['--gpus', '2', '--gpu-type', 'a100', '--time', '1-12:00:00', '--name', 'llama']
    """
    found = Translation([], [], {})
    faults: list[tuple[str, str]] = []
    rest = list(words)
    while rest:
        name, value, spelled = _next(rest)
        text = f"{spelled} {value}" if value else spelled
        if name in OPTIONS and name not in skip:
            try:
                found.words.extend(_meaning(name, value))
                found.values[name] = value or ""
                continue
            except ValueError as error:
                why = str(error)
        else:
            why = REFUSED.get(name, "leptond does not know it")
        found.values.setdefault(name, value or "")
        if name in skip or ALL in skip:
            found.left_out.append(text)
        else:
            faults.append((name, f"{text}: {why}"))
    if faults:
        raise UsageError(_all_at_once(faults))
    return found


def _meaning(name: str, value: str | None) -> Words:
    """leptonctl's words for an option. Raises ValueError."""
    if value is None:
        raise ValueError("it has no value")
    return OPTIONS[name](value)


def _all_at_once(faults: Sequence[tuple[str, str]]) -> str:
    """One message for everything in a script that cannot be honoured, with the option that leaves it out."""
    names = ",".join(dict.fromkeys(name for name, _ in faults))
    lines = "".join(f"\n  #SBATCH {text}" for _, text in faults)
    return (
        f"the script asks for what cannot be honoured here:{lines}\n"
        f"--ignore-sbatch {names} leaves {'it' if len(faults) == 1 else 'them'} out "
        f"(--ignore-sbatch {ALL}: whatever cannot be honoured)"
    )


def _next(rest: list[str]) -> tuple[str, str | None, str]:
    """Take one option off the front: its long name, its value (None: it has none), and how it was spelled. A
    word that is no option of sbatch's is its own name."""
    word = rest.pop(0)
    long, short = _LONG.match(word), _SHORT_FORM.match(word)
    if long is not None:
        name, value, spelled = long[1], long[2], f"--{long[1]}"
    elif short is not None and short[1] in SHORT:
        name, value, spelled = SHORT[short[1]], short[2].removeprefix("=") or None, f"-{short[1]}"
    else:
        return word.lstrip("-") or word, "", word
    if name in _FLAGS:
        return name, value or "", spelled
    if value is None and rest and not rest[0].startswith("-"):
        value = rest.pop(0)
    return name, value, spelled


# -- the variables of Slurm ----------------------------------------------------------------------------

SWITCH = "LEPTOND_SLURM"
"""In the environment of a job: ``1`` gives it Slurm's variables too (engines/launch.py makes them)."""

SET = frozenset(
    {
        "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MAX",
        "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP", "SLURM_CPUS_PER_TASK", "SLURM_GPUS",
        "SLURM_GPUS_ON_NODE", "SLURM_JOB_ACCOUNT", "SLURM_JOB_ID", "SLURM_JOB_NAME",
        "SLURM_JOB_NUM_NODES", "SLURM_JOB_PARTITION", "SLURM_JOB_USER", "SLURM_NNODES",
        "SLURM_RESTART_COUNT", "SLURM_SUBMIT_DIR",
    }
)  # fmt: skip
"""What a batch script finds of them. Those that say that there are several tasks, and which one this is
(SLURM_NTASKS, SLURM_PROCID, SLURM_LOCALID), are not among them: libraries take them for the launch by srun of
a cluster. Nor is SLURM_JOBID, by which mpirun knows one."""

_VARIABLE = re.compile(r"\$\{?(SLURM_[A-Z0-9_]+)")
_PROGRAM = re.compile(
    r"(?:^|[|&;(]|\b(?:exec|time)\s)\s*(srun|scontrol|sacct|squeue|sbatch|module)\b", re.MULTILINE
)
_INSTEAD = {
    "srun": "leave the word out; several ranks start with torchrun, or with --nproc",
    "scontrol": "there is one machine; $MASTER_ADDR and $MASTER_PORT are set",
    "SLURM_JOBID": "$SLURM_JOB_ID is set",
    "SLURM_JOB_NODELIST": "there is one machine; $MASTER_ADDR is set",
    "SLURM_NODELIST": "there is one machine; $MASTER_ADDR is set",
    "SLURM_NTASKS": "there is one task; torchrun tells the ranks of its own",
    "SLURM_PROCID": "there is one task; torchrun sets RANK",
    "SLURM_LOCALID": "there is one task; torchrun sets LOCAL_RANK",
    "SLURM_JOB_GPUS": "$LEPTOND_GPU_IDS is set",
    "SLURM_TMPDIR": "$TMPDIR may be set",
}


def environment(values: Mapping[str, str]) -> dict[str, str]:
    """What the environment of a batch script's job says for Slurm's variables, of the options in it."""
    found = {SWITCH: "1"}
    if values.get("cpus-per-task", "").isdecimal():
        found["SLURM_CPUS_PER_TASK"] = values["cpus-per-task"]
    return found


def missing(text: str) -> list[str]:
    """What the text of a batch script uses of Slurm's and will not find here, a sentence each.

    >>> missing("python train.py --rank $SLURM_PROCID")
    ['$SLURM_PROCID in the script is not set by leptond: there is one task; torchrun sets RANK']
    """
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    sentences = [
        f"the script calls {name}, which leptond does not have{_hint(name)}"
        for name in dict.fromkeys(_PROGRAM.findall(code))
        if name != "module"
    ]
    names = [name for name in dict.fromkeys(_VARIABLE.findall(code)) if name not in SET]
    return sentences + [f"${name} in the script is not set by leptond{_hint(name)}" for name in names]


def _hint(name: str) -> str:
    return f": {_INSTEAD[name]}" if name in _INSTEAD else ""
