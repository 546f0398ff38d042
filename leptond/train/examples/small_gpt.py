"""A small transformer on the source of Python's own standard library, with all that leptond.train does: it
resumes exactly, its rate can be tuned, a wrong loss sends it back, and it runs under any parallel plan.

    leptonctl submit --gpus 1 --retries 3 -- python -m leptond.train.examples.small_gpt --steps 2000
    leptonctl submit --gpus 4 --nproc auto -- python -m leptond.train.examples.small_gpt --plan dp=2,tp=2
"""

from __future__ import annotations

import argparse

import torch

from leptond import job
from leptond.train.checkpoint import Checkpoints
from leptond.train.gpt import TP_PLAN, Gpt, GptConfig, next_token_loss
from leptond.train.loop import Training
from leptond.train.parallel import Parallel, Plan
from leptond.train.schedule import OPTIMIZERS, SCHEDULES, make_optimizer, make_schedule
from leptond.train.text import batch_of, read_text


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train a small transformer on Python source code.")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=32, help="rows of a step, over all ranks")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw")
    parser.add_argument("--schedule", choices=SCHEDULES, default="cosine")
    parser.add_argument("--plan", type=Plan.parse, default=Plan(), help="dp=2,fsdp=2,tp=2,pp=2 [one process]")
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints")
    return parser.parse_args()


def main() -> None:
    """Train."""
    options = arguments()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    text = read_text()
    torch.manual_seed(1)
    model = Gpt(GptConfig(width=options.width, layers=options.layers, context=options.context))
    with Parallel.start(options.plan) as parallel:
        held = parallel.wrap(model, loss=next_token_loss, tp_plan=TP_PLAN)
        optimizer = make_optimizer(options.optimizer, parallel.parameters(), lr=options.lr)
        more = {"every": max(1, options.steps // 4)} if options.schedule == "step" else {}
        more |= {"gamma": 0.999} if options.schedule == "exponential" else {}
        training = Training(
            held,
            optimizer,
            make_schedule(options.schedule, optimizer, total=options.steps, **more),
            total=options.steps,
            checkpoints=Checkpoints(job.checkpoint_dir),
            every=options.every,
            parallel=parallel,
            clip=1.0,
        )
        for step in training:
            batch = batch_of(text, options.batch, options.context, step)
            training.update(parallel.forward_backward(*parallel.my_share(batch)))
            if training.rank == 0 and (step + 1) % 10 == 0:
                print(f"step {step + 1}/{options.steps}  loss {training.loss:.3f}", flush=True)
        if training.rank == 0:
            print(f"final: step={training.step} loss={training.loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
