"""A small training, of which the sweep benchmark runs many: `python trial.py --steps N --results DIR --lr X
--width W`.

It leaves a file in the directory of the results: the time (nanoseconds, Unix) and its loss. The same file is
what all peers run, as a script or as a function, so it imports nothing of leptond or of these tests.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch


def train(steps: int, lr: float, width: int) -> float:
    """Fit a sum by a layer of `width`; return the last loss."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(32, width), torch.nn.ReLU(), torch.nn.Linear(width, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    loss = torch.zeros(())
    for _ in range(steps):
        rows = torch.randn(64, 32)
        loss = (model(rows) - rows.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def run(steps: int, results: str, lr: float, width: int) -> float:
    """Train, leave the result, and return the loss."""
    loss = train(steps, lr, width)
    file = Path(results) / f"{lr}-{width}"
    part = file.with_suffix(f".{os.getpid()}.part")
    part.write_text(f"{time.time_ns()} {loss}\n")
    part.rename(file)
    return loss


def main(words: Sequence[str] | None = None) -> None:
    """Run the trial that the command line describes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--results", required=True)
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--width", type=int, required=True)
    run(**vars(parser.parse_args(words)))


if __name__ == "__main__":
    main()
