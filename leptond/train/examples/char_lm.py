"""A character language model in plain torch, and all that a good job of leptond needs besides: it resumes, it
reports, and on SIGTERM it finishes its step, saves and leaves. The loop is its own; with
:class:`leptond.train.loop.Training` around it, it is small_gpt.py.

    leptonctl submit --gpus 1 --retries 3 --time 1h -- python -m leptond.train.examples.char_lm --steps 1000
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from leptond import job
from leptond.train.text import batch_of, read_text

VOCABULARY = 128
"""ASCII."""


class CharModel(nn.Module):
    """Characters in, scores for the next character out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.memory = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, characters: Tensor) -> Tensor:  # (batch, time) -> (batch, time, VOCABULARY)
        states, _ = self.memory(self.embed(characters))
        scores: Tensor = self.head(states)
        return scores


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint that is whole or not there."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description="Train a character language model on Python source code.")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--lr", type=float, default=6e-3)
    parser.add_argument("--every", type=int, default=20, help="steps between checkpoints")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)  # the model is too small to share out
    text = read_text()
    held_out, train = text[: len(text) // 10], text[len(text) // 10 :]
    torch.manual_seed(1)
    model = CharModel(options.width).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    path = job.checkpoint_dir / "char_lm.pt" if job.checkpoint_dir is not None else None
    first = 0
    if path is not None and path.exists():
        state = torch.load(path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first = state["step"]
        print(f"resumed from step {first}", flush=True)

    def loss_of(part: Tensor, number: int) -> Tensor:
        """Mean cross-entropy, nats a character."""
        now, following = batch_of(part, options.batch, options.context, number)
        return F.cross_entropy(model(now.to(device)).flatten(0, 1), following.flatten().to(device))

    stop = job.should_stop()  # from here on SIGTERM is heard
    for step in range(first, options.steps):
        loss = loss_of(train, step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        done = step + 1
        job.report(step=done, total=options.steps, loss=loss, lr=rate)
        stop = job.should_stop()
        if path is not None and (stop or done % options.every == 0 or done == options.steps):
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done}
            save(path, {**state, "schedule": schedule.state_dict()})
            job.checkpointed(done)
        if stop:
            job.leave()  # the exit code that says: run me again
        if done % 20 == 0:
            print(f"step {done}/{options.steps}  loss {loss.item():.3f}", flush=True)
    with torch.no_grad():
        losses = [loss_of(held_out, number).item() for number in range(4)]
    print(f"final: held-out loss {sum(losses) / len(losses):.4f}", flush=True)


if __name__ == "__main__":
    main()
