"""Warm starts: which jobs may start in a process that has its imports done, and which of those processes to
keep. Pure. Conditions that only that process can check are in :mod:`leptond.engines.warm_runner`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

WARM = "warm"
NOT_YET = "no warm process of its interpreter and environment stood ready"
OFF = "warm starts are off"
ASKED = "the job asked for it"
NO_ANSWER = "its warm process did not answer"
SUBMITTERS = "jobs run as their submitters, which start warm only where cgroups keep them together"
CHANGED = "packages have changed on disk"
LEARNED = "not as learned"
"""Begins the reason of a job that would not have had the imports that its warm process has learned."""

OWN = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "MASTER_PORT",
        "PET_MASTER_PORT",
        "PWD",
        "TORCHELASTIC_ERROR_FILE",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT",
    }
)
"""Variables that differ from attempt to attempt. A warm process is prepared without them; a program that
reads one of them while it is imported starts cold."""
OWN_PREFIX = "LEPTOND_"

PREFIXES = (
    "BLIS_",
    "CUBLAS",
    "CUDA_",
    "CUDNN_",
    "GLIBC_TUNABLES",
    "GOMP_",
    "GOTO_",
    "KINETO_",
    "KMP_",
    "LANG",
    "LC_",
    "LD_",
    "LOCPATH",
    "MALLOC_",
    "MKL_",
    "NCCL_",
    "NPY_",
    "NUMBA_",
    "NUMEXPR_",
    "NVIDIA_",
    "OMP_",
    "OPENBLAS_",
    "PYTHON",
    "PYTORCH_",
    "SETUPTOOLS_",
    "TORCH",
    "TRITON_",
    "TZ",
    "VIRTUAL_ENV",
    "XLA_",
)
"""Prefixes of variables that C libraries, the C library itself and the start of the interpreter read without
any trace: a warm process serves only jobs with the same values of them."""

PLAIN = frozenset(
    {
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONFAULTHANDLER",
        "PYTHONHASHSEED",
        "PYTHONIOENCODING",
        "PYTHONNOUSERSITE",
        "PYTHONOPTIMIZE",
        "PYTHONPATH",
        "PYTHONPYCACHEPREFIX",
        "PYTHONUNBUFFERED",
        "PYTHONUTF8",
        "PYTHONWARNINGS",
    }
)
"""Variables of the interpreter that do not prevent a warm start."""

TORCHRUN = frozenset({"torch.distributed.run", "torch.distributed.launch"})

_PYTHON = re.compile(r"^python(3(\.\d+)?)?\Z")
_SCRIPTS = frozenset({"torchrun", "accelerate", "deepspeed"})


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A call of Python: `target` is a script's path, a module's name or code; `args` follow it."""

    python: str
    how: Literal["script", "module", "code"]
    target: str
    args: list[str]


class WarmProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A warm process: its environment key, when it last served (boot time), and its memory."""

    key: str
    used_at: float
    size_bytes: int


def parse_command(argv: Sequence[str], env: Mapping[str, str]) -> Command | str:
    """Parse a call of Python; return the reason if it must start cold.

    >>> parse_command(["python", "-m", "train", "--lr", "1"], {}).target
    'train'
    >>> parse_command(["python", "-O", "train.py"], {})
    'its interpreter is given the option -O'
    """
    name = argv[0].rpartition("/")[2]
    if name in _SCRIPTS:
        return f"{name} starts its workers itself"
    if not _PYTHON.match(name):
        return "its command is not a Python interpreter"
    if "/" in argv[0] and not argv[0].startswith("/"):
        return "its interpreter is named by a relative path"
    why = _environment(env)
    if why:
        return why
    rest = list(argv[1:])
    while rest[:1] == ["-u"] and env.get("PYTHONUNBUFFERED"):
        del rest[0]
    if not rest or rest[0] == "-":
        return "its interpreter reads its standard input"
    first = rest.pop(0)
    if first in ("-m", "-c"):
        if not rest:
            return f"nothing follows {first}"
        target = rest.pop(0)
        if first == "-m" and target in TORCHRUN:
            return "torchrun starts its workers itself"
        return Command(python=argv[0], how="module" if first == "-m" else "code", target=target, args=rest)
    if first.startswith("-"):
        return f"its interpreter is given the option {first}"
    return Command(python=argv[0], how="script", target=first, args=rest)


def _environment(env: Mapping[str, str]) -> str:
    for name in ("LD_PRELOAD", "LD_AUDIT"):
        if env.get(name):
            return f"{name} is set"
    for name in env:
        if name.startswith("PYTHON") and name not in PLAIN:
            return f"{name} is set"
    parts = env["PYTHONPATH"].split(":") if env.get("PYTHONPATH") else []
    if not all(part.startswith("/") for part in parts):
        return "PYTHONPATH has a relative part"
    return ""


def environment_key(python: str, env: Mapping[str, str]) -> str:
    """Return what jobs that may share a warm process have in common: the interpreter's path and the variables
    that are read without any trace."""
    seen = [python]
    for name, value in sorted(base_environment(env).items()):
        if name.startswith(PREFIXES):
            seen.append(f"{name}={value}")
    return "\0".join(seen)


def base_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that a warm process is prepared in: without any visible GPU or attempt."""
    shared = {
        name: value for name, value in env.items() if name not in OWN and not name.startswith(OWN_PREFIX)
    }
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
