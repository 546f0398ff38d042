"""A small training on real text for the tests of the loop: run as a script it is a job."""

from __future__ import annotations

import hashlib
import random
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from leptond import job
from leptond.train.checkpoint import Checkpoints
from leptond.train.gpt import Gpt, GptConfig, next_token_loss
from leptond.train.loop import Guard, Training
from leptond.train.schedule import make_optimizer, make_schedule

CONTEXT, BATCH = 16, 16
TEXT = torch.frombuffer(bytearray(Path(random.__file__).read_bytes()), dtype=torch.uint8)
CONFIG = GptConfig(context=CONTEXT, width=16, heads=4, layers=2, dropout=0.1)


def batch_of(step: int) -> tuple[Tensor, Tensor]:
    """The rows of a step, the same in every attempt."""
    dice = torch.Generator().manual_seed(step)
    starts = torch.randint(len(TEXT) - CONTEXT - 1, (BATCH,), generator=dice)
    rows = torch.stack([TEXT[start : start + CONTEXT + 1] for start in starts.tolist()]).long() % 128
    return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def training(directory, *, total=60, every=7, lr=3e-3, model=None, **more) -> Training:
    """A training as every test wants it."""
    torch.manual_seed(1)
    model = Gpt(CONFIG) if model is None else model
    optimizer = make_optimizer("adamw", model.parameters(), lr=lr)
    schedule = make_schedule("cosine", optimizer, total=total, warmup=5, floor=0.1)
    checkpoints = directory if isinstance(directory, Checkpoints) else Checkpoints(directory)
    torch.manual_seed(2)
    return Training(model, optimizer, schedule, total=total, checkpoints=checkpoints, every=every, **more)


def run(one: Training, on_step=lambda step: None) -> list[float]:
    """Trains to the end; the losses by step of this process."""
    losses = []
    for step in one:
        on_step(step)
        rows, following = batch_of(step)
        one.update(next_token_loss(one.model(rows), following))
        losses.append(one.loss)
    return losses


def fingerprint(model: nn.Module) -> str:
    """A hash of every bit of the weights."""
    sha = hashlib.sha256()
    for name, weights in sorted(model.state_dict().items()):
        sha.update(name.encode() + weights.contiguous().numpy().tobytes())
    return sha.hexdigest()


def main() -> None:
    """As a job: ``small.py TOTAL EVERY [MARKER]`` trains, goes slowly while MARKER is not there, and prints
    the rate of each step and the fingerprint of the result."""
    torch.set_num_threads(1)
    total, every = int(sys.argv[1]), int(sys.argv[2])
    marker = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    one = training(job.checkpoint_dir, total=total, every=every, guard=Guard(spike=0))

    def on_step(step: int) -> None:
        import time

        print("rate", step, one.optimizer.param_groups[0]["lr"], flush=True)
        if marker is not None and not marker.exists():
            time.sleep(0.05)

    run(one, on_step)
    print("result", fingerprint(one.model), flush=True)


if __name__ == "__main__":
    main()
