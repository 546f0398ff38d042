"""Real text that is on every machine: the source of Python's own standard library."""

from __future__ import annotations

import random
import sysconfig
from pathlib import Path

import torch
from torch import Tensor


def read_text(limit: int = 2_000_000, folder: str = "") -> Tensor:
    """The files of the standard library, or of one of its packages (`folder`), one after another in an order
    of their own, as ASCII: at least `limit` characters where there are so many. uint8, (characters,)."""
    text = bytearray()
    files = sorted((Path(sysconfig.get_paths()["stdlib"]) / folder).glob("*.py"))
    random.Random(1).shuffle(files)
    for file in files:
        text += file.read_bytes().decode("utf-8", "replace").encode("ascii", "replace")
        if len(text) > limit:
            break
    return torch.frombuffer(text, dtype=torch.uint8)


def batch_of(text: Tensor, rows: int, context: int, step: int) -> tuple[Tensor, Tensor]:
    """The rows of a step and the characters that follow, (rows, context) each: a function of the step, so
    that a resume goes on exactly where it was."""
    dice = torch.Generator().manual_seed(step)
    starts = torch.randint(len(text) - context - 1, (rows,), generator=dice).tolist()
    found = torch.stack([text[start : start + context + 1] for start in starts]).long()
    return found[:, :-1].contiguous(), found[:, 1:].contiguous()
