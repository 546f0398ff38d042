"""An image classifier on scikit-learn's handwritten digits (1,797 images of 8 x 8): plain torch and the loop.

leptonctl submit --gpus 1 --retries 3 -- python -m leptond.train.examples.digits --steps 500
"""

from __future__ import annotations

import argparse

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from leptond import job
from leptond.train.checkpoint import Checkpoints
from leptond.train.costs import Loader, Precision
from leptond.train.loop import Training
from leptond.train.schedule import make_optimizer, make_schedule

HELD_OUT = 297
"""Images that are never trained on: the last ones, written by other hands."""


def images() -> tuple[Tensor, Tensor]:
    """Images from 0 to 1, one channel, and their digits."""
    data = load_digits()
    return torch.tensor(data.images / 16.0, dtype=torch.float32).unsqueeze(1), torch.tensor(data.target)


def build() -> nn.Module:
    """Two convolutions and a layer on top."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def main() -> None:
    """Train, and print how many of the held-out digits are read right."""
    parser = argparse.ArgumentParser(description="Train a small classifier of handwritten digits.")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)  # the images are too small to share out
    torch.manual_seed(1)
    pixels, digits = images()
    model = build().to(device)
    precision = Precision(options.precision, device)
    loader = Loader(TensorDataset(pixels[:-HELD_OUT], digits[:-HELD_OUT]), 64, seed=1)
    optimizer = make_optimizer("adamw", model.parameters(), lr=options.lr)
    training = Training(
        model,
        optimizer,
        make_schedule("one-cycle", optimizer, total=options.steps),
        total=options.steps,
        checkpoints=Checkpoints(job.checkpoint_dir),
        every=50,
        state={"loader": loader},
    )
    for step in training:
        rows, wanted = (part.to(device, non_blocking=True) for part in next(loader))
        with precision.forward():
            loss = F.cross_entropy(model(rows), wanted)
        training.update(loss)
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{options.steps}  loss {training.loss:.3f}", flush=True)
    with torch.no_grad():
        right = (model(pixels[-HELD_OUT:].to(device)).argmax(1).cpu() == digits[-HELD_OUT:]).float().mean()
    print(f"final: {right.item():.1%} of {HELD_OUT} held-out digits", flush=True)


if __name__ == "__main__":
    main()
