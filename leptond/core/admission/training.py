"""Whether a command looks like a training, for a word of warning at the submit. Pure; nothing else may depend
on it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from posixpath import basename

LIBRARIES = "torch|lightning|pytorch_lightning|transformers|accelerate|deepspeed|jax|tensorflow|keras"
_IMPORT = re.compile(rf"^[ \t]*(?:import|from)[ \t]+({LIBRARIES})\b", re.MULTILINE)
_LAUNCHER = re.compile(
    r"(?<![\w./-])(torchrun|deepspeed|accelerate launch|torch\.distributed\.(?:run|launch))\b"
)
_PYTHON = re.compile(r"^python(?:3(?:\.\d+)?)?\Z")


def script_of(argv: Sequence[str], *, shell: bool) -> str | None:
    """The script that a command runs, as it is named there: the first word itself, or the first one after an
    interpreter's options; None for a line of shell, a module (-m) and code (-c).

    >>> script_of(["/usr/bin/python3", "-u", "train.py", "--lr", "1"], shell=False)
    'train.py'
    """
    if shell:
        return None
    if not _PYTHON.match(basename(argv[0])) and basename(argv[0]) not in ("sh", "bash"):
        return argv[0]
    for word in argv[1:]:
        if word in ("-m", "-c"):
            return None
        if not word.startswith("-"):
            return word
    return None


def sign_of_training(argv: Sequence[str], text: str) -> str | None:
    """Why a command looks like a training: a launcher in it, or what its script (of that `text`) starts or
    imports; None where it does not.

    >>> sign_of_training(["python", "train.py"], "import torch")
    'it imports torch'
    >>> sign_of_training(["torchrun", "train.py"], "")
    'it calls torchrun'
    """
    words = " ".join([basename(argv[0]), *argv[1:]])
    launcher = _LAUNCHER.search(words) or _LAUNCHER.search(text)
    if launcher is not None:
        return f"it calls {launcher[1]}"
    found = _IMPORT.search(text)
    return f"it imports {found[1]}" if found is not None else None
