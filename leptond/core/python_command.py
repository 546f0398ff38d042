"""Calls of Python, as a warm start has to know them: what an interpreter is told to run, whether that can run
in a process that has its imports done, and which variables such processes may differ in. Pure; standard
library alone, because warm processes import it."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

OWN = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "MASTER_PORT",
        "PET_MASTER_PORT",
        "PWD",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING",
    }
)
"""Variables that differ from attempt to attempt, or from rank to rank. A warm process is prepared without
them; a program that reads one of them while it is imported starts cold."""
OWN_PREFIXES = ("LEPTOND_", "TORCHELASTIC_")

PREFIXES = (
    "ACC_",
    "ATEN_",
    "BLIS_",
    "CUBLAS",
    "CUDA_",
    "CUDNN_",
    "DNNL_",
    "GFORTRAN_",
    "GLIBC_TUNABLES",
    "GOMP_",
    "GOTO_",
    "I_MPI_",
    "INTEL_",
    "KINETO_",
    "KMP_",
    "LANG",
    "LC_",
    "LD_",
    "LOCPATH",
    "MALLOC_",
    "MKL",
    "MPI_",
    "NCCL_",
    "NPY_",
    "NUMBA_",
    "NUMEXPR_",
    "NUMPY_",
    "NVIDIA_",
    "NVRTC_",
    "OMP_",
    "OMPI_",
    "ONEDNN_",
    "OPENBLAS_",
    "OPENSSL_",
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

LAUNCHERS = frozenset(
    {
        "accelerate",
        "accelerate-launch",
        "accelerate.commands.accelerate_cli",
        "accelerate.commands.launch",
        "deepspeed",
        "deepspeed.launcher.launch",
        "deepspeed.launcher.runner",
        "torch.distributed.launch",
        "torch.distributed.run",
        "torchrun",
    }
)
"""Scripts and modules that start ranks with their own interpreter."""
_ONE = re.compile(r"^0*1\Z")
_COUNT = re.compile(r"^--nproc[-_]per[-_]node(?:=(.*))?\Z", re.DOTALL)
_PYTHON = re.compile(r"^python(3(\.\d+)?)?\Z")
_BLANKS = re.compile(r"[ \t]+")
_ENV = ("/usr/bin/env", "/bin/env")


class Command:
    """A call of Python. `target` is a script's path, a module's name or code (`how`: ``script``, ``module``,
    ``code``); `args` follow it. `argv` is the command line that /proc shows, `name` the name of the process
    where it is not the interpreter's, `first_line` that of a script that the kernel has to start."""

    __slots__ = ("args", "argv", "first_line", "how", "name", "python", "target")

    def __init__(self, python: str, how: str, target: str, args: list[str], argv: list[str]) -> None:
        self.python = python
        self.how = how
        self.target = target
        self.args = args
        self.argv = argv
        self.name = ""
        self.first_line = ""

    @property
    def launches(self) -> bool:
        """True if it starts ranks."""
        return self.how != "code" and self.target.rpartition("/")[2] in LAUNCHERS

    def described(self, *, ranks: bool = True) -> dict[str, Any]:
        """Return it as JSON for the process that runs it, which starts the ranks of a launcher warm too, with
        `ranks`."""
        launches = ranks and self.launches
        return {**{name: getattr(self, name) for name in self.__slots__}, "launches": launches}


def is_python(program: str) -> bool:
    """Return True if a program is named as a Python interpreter is."""
    return _PYTHON.match(program.rpartition("/")[2]) is not None


def parse(argv: Sequence[str], env: Mapping[str, str]) -> Command | str:
    """Parse a call of Python; return the reason if it must start cold.

    >>> parse(["python", "-m", "train", "--lr", "1"], {}).target
    'train'
    >>> parse(["python", "-O", "train.py"], {})
    'its interpreter is given the option -O'
    """
    if not is_python(argv[0]):
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
        return Command(argv[0], "module" if first == "-m" else "code", target, rest, list(argv))
    if first.startswith("-"):
        return f"its interpreter is given the option {first}"
    return Command(argv[0], "script", first, rest, list(argv))


def parse_script(path: str, first_line: bytes, args: Sequence[str], env: Mapping[str, str]) -> Command | str:
    """Parse the call of Python by the first line of the executable file `path`, as the kernel would read it;
    return the reason if it must start cold.

    >>> parse_script("./train.py", b"#!/usr/bin/env python3", ["--lr=1"], {}).argv
    ['python3', './train.py', '--lr=1']
    >>> parse_script("/bin/sh", b"", [], {})
    'its command is not a Python interpreter'
    """
    if not first_line.startswith(b"#!"):
        return "its command is not a Python interpreter"
    try:
        # the kernel hands over everything behind the interpreter as one argument
        words = [word for word in _BLANKS.split(first_line[2:].decode().strip(" \t"), maxsplit=1) if word]
    except UnicodeDecodeError:
        return "its first line is not UTF-8"
    if not words:
        return "its command is not a Python interpreter"
    by_env = words[0] in _ENV
    if by_env:
        words = _BLANKS.split(words[1]) if len(words) > 1 else []
        if words[:1] == ["-S"]:
            del words[0]
        elif len(words) > 1:
            return "its first line gives env several words without -S"
        if not words or any(mark in word for word in words for mark in "=\"'\\$#"):
            return "its first line gives env more than a command"
    elif not words[0].startswith("/"):
        return "its first line names its interpreter by a relative path"
    found = parse([*words, path, *args], env)
    if isinstance(found, str):
        return found
    found.first_line = first_line.decode()
    found.name = "" if by_env else path.rpartition("/")[2]
    return found


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


def is_own(name: str) -> bool:
    """Return True for a variable that differs from attempt to attempt, or from rank to rank."""
    return name in OWN or name.startswith(OWN_PREFIXES)


def unseen(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are read without any trace."""
    return {name: value for name, value in env.items() if name.startswith(PREFIXES) and not is_own(name)}


def with_threads_of_ranks(command: Command, env: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment that a command's imports belong into: of a launcher, that of its ranks. For
    several of them, torchrun and accelerate set ``OMP_NUM_THREADS`` where it is not set."""
    if not command.launches or "OMP_NUM_THREADS" in env:
        return env
    if command.target.rpartition("/")[2] in ("torchrun", "torch.distributed.run", "torch.distributed.launch"):
        count = env.get("PET_NPROC_PER_NODE", "1")
        for place, word in enumerate(command.args):
            option = _COUNT.match(word)
            if option is not None:
                count = option[1] or "".join(command.args[place + 1 : place + 2])
                break
            if not word.startswith("-") and not command.args[place - 1].startswith("-"):
                break  # the script, whose words follow
        if _ONE.match(count):
            return env
    return {**env, "OMP_NUM_THREADS": "1"}
