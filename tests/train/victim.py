"""The training that :mod:`tests.train.kills` kills: a job that writes down what it does, and in the end the
weights that it has.

    python -m tests.train.victim LOG RESULT [--plan dp=2] [--steps 60] [--every 5] [--pause 0.01]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from leptond import job
from leptond.train.checkpoint import Checkpoints
from leptond.train.costs import Loader
from leptond.train.gpt import TP_PLAN, Gpt, GptConfig, next_token_loss
from leptond.train.loop import Guard, Training
from leptond.train.parallel import Parallel, Plan
from leptond.train.schedule import make_optimizer, make_schedule
from tests.train.small import CONTEXT, TEXT

CONFIG = GptConfig(context=CONTEXT, width=16, heads=4, layers=2, dropout=0.1)
BATCH = 16
Note = Callable[[str], None]


def train(
    plan: Plan,
    directory: Path | str | None,
    note: Note,
    *,
    steps: int = 60,
    every: int = 5,
    pause_s: float = 0.0,
) -> dict[str, Tensor] | None:
    """Trains, with dropout and a shuffled loader, so that random states and the place in the data count as
    well. Notes ``start N`` (the step that comes first), ``done N`` (so many steps are done) and ``saved N``.
    The weights, whole, on rank 0; None on the others."""
    torch.manual_seed(1)
    model = Gpt(CONFIG)
    text = TEXT.long() % 128
    rows = [text[at : at + CONTEXT + 1] for at in range(0, len(text) - CONTEXT, CONTEXT)]
    loader = Loader(rows, BATCH, seed=7)
    with Parallel.start(plan) as parallel:
        held = parallel.wrap(model, loss=next_token_loss, tp_plan=TP_PLAN)
        torch.manual_seed(2 + parallel.rank)
        optimizer = make_optimizer("adamw", parallel.parameters(), lr=3e-3)
        checkpoints = Checkpoints(directory, keep=2)
        announce = checkpoints.announce
        checkpoints.announce = lambda step: (note(f"saved {step}"), announce(step))[1]
        training = Training(
            held,
            optimizer,
            make_schedule("cosine", optimizer, total=steps, warmup=5, floor=0.1),
            total=steps,
            checkpoints=checkpoints,
            every=every,
            parallel=parallel,
            guard=Guard(spike=0),
            clip=0.5,
            state={"loader": loader},
        )
        begun = False
        for step in training:
            if not begun:
                begun = True
                note(f"start {step}")
            batch = next(loader)
            share = parallel.my_share((batch[:, :-1].contiguous(), batch[:, 1:].contiguous()))
            loss = parallel.forward_backward(*share)
            if pause_s:
                time.sleep(pause_s)  # a step of a real training takes longer than this one
            note(f"done {step + 1}")
            training.update(loss)
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        whole = get_model_state_dict(held, options=options)
        return {name: value.clone() for name, value in whole.items()} if parallel.rank == 0 else None


def main() -> None:
    """As a job, under torchrun or alone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("log", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--plan", type=Plan.parse, default=Plan())
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--first-pause", type=float, default=0.0, help="of the first attempt")
    options = parser.parse_args()
    torch.set_num_threads(1)
    first = int(os.environ.get("RANK") or 0) == 0
    # written at once and whole: what a process wrote outlives its SIGKILL
    log = os.open(options.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(what: str) -> None:
        if first:
            os.write(log, f"{job.attempt} {what}\n".encode())

    place = job.checkpoint_dir
    torn = len(list(place.glob(".step-*.tmp"))) if place is not None else 0
    note(f"torn {torn}")
    pause_s = options.first_pause if job.attempt == 1 else options.pause
    weights = train(options.plan, place, note, steps=options.steps, every=options.every, pause_s=pause_s)
    if weights is not None:
        aside = options.result.with_suffix(".tmp")
        torch.save(weights, aside)
        aside.replace(options.result)


if __name__ == "__main__":
    main()
