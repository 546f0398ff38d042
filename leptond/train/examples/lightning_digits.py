"""Handwritten digits (scikit-learn's 1,797 images of 8 x 8) with Lightning: two lines of leptond, and after a
resume it ends with the same bits.

    pip install lightning scikit-learn
    leptonctl submit --gpus 1 --retries 3 -- python -m leptond.train.examples.lightning_digits --steps 500
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from leptond import job
from leptond.integrations.lightning import LeptondCallback, resume_from
from leptond.train.costs import Loader
from leptond.train.examples.digits import HELD_OUT, build, images


class Reader(pl.LightningModule):
    """The classifier of digits.py, with dropout in front of its last layer."""

    def __init__(self, lr: float, steps: int) -> None:
        super().__init__()
        self.lr, self.steps = lr, steps
        layers = build()
        self.layers = nn.Sequential(*layers[:-1], nn.Dropout(0.1), layers[-1])

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        loss = F.cross_entropy(self.layers(batch[0]), batch[1])
        self.log("nats", loss)
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW, up and down in one cycle."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.lr, total_steps=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def main() -> None:
    """Train, and print how many of the held-out digits are read right."""
    parser = argparse.ArgumentParser(description="Train a small classifier of handwritten digits.")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--every", type=int, default=50, help="steps between checkpoints")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # the images are too small to share out
    torch.manual_seed(1)
    pixels, digits = images()
    reader = Reader(options.lr, options.steps)
    # a loader whose place is part of the checkpoint; torch's own begins its epoch again
    loader = Loader(TensorDataset(pixels[:-HELD_OUT], digits[:-HELD_OUT]), 64, seed=1)
    trainer = pl.Trainer(
        max_steps=options.steps,
        devices=1,
        logger=False,
        enable_checkpointing=False,  # the callback saves
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LeptondCallback(every=options.every)],
        default_root_dir=os.fspath(job.checkpoint_dir or "."),
    )
    begin = resume_from(job.checkpoint_dir)
    trainer.fit(reader, loader, ckpt_path=begin)
    with torch.no_grad():
        found = reader.layers.eval()(pixels[-HELD_OUT:].to(reader.device)).argmax(1).cpu()
    right = (found == digits[-HELD_OUT:]).float().mean()
    weights = sum(float(p.detach().double().sum()) for p in reader.parameters())
    print(f"final: {right.item():.1%} of {HELD_OUT} held-out digits, weights {weights:.12f}", flush=True)


if __name__ == "__main__":
    main()
