"""`--nproc`: a Python command as several ranks on this machine, under torchrun."""

from __future__ import annotations

import re
from collections.abc import Sequence

from leptond.base.usage import UsageError

MAX_RANKS = 1024
_PYTHON = re.compile(r"^python[0-9.]*\Z")
_UNBUFFERED = "-u"  # torchrun gives it to its ranks anyway


def is_python(program: str) -> bool:
    """Return True if `program` is named as a Python interpreter is: torchrun starts nothing else."""
    return _PYTHON.match(program.rpartition("/")[2]) is not None


def count(text: str, gpus: int) -> int:
    """The number of ranks that ``--nproc`` asks for: ``auto`` is one a GPU. Raises UsageError."""
    if text == "auto":
        if gpus < 1:
            raise UsageError("auto is one a GPU, and the job has none", option="--nproc")
        return gpus
    if not text.isdecimal() or not 1 <= int(text) <= MAX_RANKS:
        raise UsageError(f"{text!r} is neither auto nor a number from 1", option="--nproc")
    return int(text)


def under_torchrun(words: Sequence[str], ranks: int) -> list[str]:
    """The command that runs ``python script.py ...`` or ``python -m module ...`` as so many ranks.

    The port is the free one that leptond puts into the environment (PET_MASTER_PORT), the grace is there as
    well (TORCH_ELASTIC_SHUTDOWN_TIMEOUT), and restarts are leptond's: torchrun makes none. Raises
    UsageError.
    """
    program, rest = words[0], list(words[1:])
    if not is_python(program):
        raise UsageError("--nproc starts a Python script: leptonctl submit --nproc 2 -- python train.py")
    while rest and rest[0] == _UNBUFFERED:
        rest = rest[1:]
    if not rest or (rest[0].startswith("-") and rest[0] != "-m"):
        what = f"the option {rest[0]}" if rest else "nothing"
        raise UsageError(f"--nproc cannot pass {what} of the interpreter on; name a script or -m MODULE")
    run = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--max-restarts", "0"]
    return [program, *run, *rest]
