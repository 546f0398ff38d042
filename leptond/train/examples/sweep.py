"""A trial of a sweep: a classifier of scikit-learn's handwritten digits, whose learning rate, optimizer,
width and weight decay are to be found. What is compared is the loss on digits that it is not trained on.

    leptonctl sweep --gpus 1 --grid optimizer=adamw,sgd --random lr=log:1e-5..1 --random width=int:4..32 \\
        --random decay=log:1e-4..1 --n 20 --metric held_out --min-step 40 \\
        -- python -m leptond.train.examples.sweep --steps 1080
    leptonctl sweeps @last

With --min-step 40 and --eta 3 a trial is measured at 40, 120 and 360 steps: the bad ones are gone after a few
hundredths of the work.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from leptond import job
from leptond.train.checkpoint import Checkpoints
from leptond.train.costs import Loader
from leptond.train.examples.digits import HELD_OUT, images
from leptond.train.loop import Guard, Training
from leptond.train.schedule import make_optimizer, make_schedule

EVERY = 40
"""Steps between two looks at the held-out digits: every rung is right after one."""


def arguments() -> argparse.Namespace:
    """The command line, which is where a sweep puts its parameters."""
    parser = argparse.ArgumentParser(description="Train a classifier of digits, as a trial of a sweep.")
    parser.add_argument("--steps", type=int, default=1080)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--optimizer", choices=("adamw", "sgd"), default="adamw")
    parser.add_argument("--width", type=int, default=16, help="channels of the first layer")
    parser.add_argument("--decay", type=float, default=0.01)
    return parser.parse_args()


def build(width: int) -> nn.Module:
    """Two convolutions and a layer on top."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(8 * width, 10),
    )  # fmt: skip


def held_out_loss(model: nn.Module, pixels: Tensor, digits: Tensor) -> float:
    """The mean loss on digits that are never trained on."""
    with torch.no_grad():
        return F.cross_entropy(model(pixels), digits).item()


def main() -> None:
    """Train, and report the loss on the held-out digits."""
    options = arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)  # the images are too small to share out
    torch.manual_seed(1)
    pixels, digits = (part.to(device) for part in images())
    model = build(options.width).to(device)
    loader = Loader(TensorDataset(pixels[:-HELD_OUT].cpu(), digits[:-HELD_OUT].cpu()), 64, seed=1)
    optimizer = make_optimizer(
        options.optimizer, model.parameters(), lr=options.lr, weight_decay=options.decay
    )
    training = Training(
        model,
        optimizer,
        make_schedule("cosine", optimizer, total=options.steps),
        total=options.steps,
        checkpoints=Checkpoints(job.checkpoint_dir),
        every=max(1, options.steps // 4),
        state={"loader": loader},
        guard=Guard(spike=0),  # losses this small jump by themselves, and a bad rate is what is to be seen
    )
    for step in training:
        if (step + 1) % EVERY == 0:  # before the report of step + 1, which may be that of a rung
            job.report(held_out=held_out_loss(model, pixels[-HELD_OUT:], digits[-HELD_OUT:]))
        rows, wanted = (part.to(device, non_blocking=True) for part in next(loader))
        training.update(F.cross_entropy(model(rows), wanted))
    loss = held_out_loss(model, pixels[-HELD_OUT:], digits[-HELD_OUT:])
    job.report(held_out=loss)
    print(
        f"final: held-out loss {loss:.4f} after {training.step} steps; {job.params or vars(options)}",
        flush=True,
    )


if __name__ == "__main__":
    main()
