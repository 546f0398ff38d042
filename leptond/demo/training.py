"""The program of the demonstration's jobs: it trains a small character language model on the source of
Python's own standard library.

An ordinary torch script, which knows nothing of leptond but its environment: it saves checkpoints where
leptond says ($LEPTOND_CHECKPOINT_DIR), continues from them on a retry, and on SIGTERM finishes its step,
saves and leaves. It runs alone, on CUDA or on the CPU, and under torchrun on several ranks:

    leptonctl submit --gpus 1 --retries 3 --time 1h -- python training.py --steps 1000
    leptonctl submit --gpus 2 -- torchrun --nproc-per-node 2 training.py --steps 1000

With nothing but what a training needs it is leptond/train/examples/char_lm.py.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import signal
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

VOCABULARY = 128  # ASCII; anything else reads as '?'
CHECKPOINT = "training.pt"
NOT_SAVED = "left after SIGTERM; nothing is saved without --checkpoint-dir"


def positive(text: str) -> int:
    """A whole number from 1."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return int(text)


def arguments() -> argparse.Namespace:
    """The command line, and the text it names. torch is imported only after both are found to be good:
    mistakes are told at once."""
    parser = argparse.ArgumentParser(
        description="Train a character language model on Python source code.",
        epilog="Exit codes: 0 trained to the end, or saved and left after SIGTERM; 2 a mistake in the "
        "arguments; 1 anything else.",
    )
    add, default = parser.add_argument, "(%(default)s)"
    add("--steps", type=positive, default=200, help=f"optimizer steps in all, over all attempts {default}")
    add("--batch", type=positive, default=16, help=f"sequences in a step of one rank {default}")
    add("--context", type=positive, default=64, help=f"characters in a sequence {default}")
    add("--width", type=positive, default=128, help=f"size of the model's vectors {default}")
    add("--layers", type=positive, default=1, help=f"recurrent layers {default}")
    add("--dropout", type=float, default=0.0, help=f"share of the vectors that a step blanks out {default}")
    add("--lr", type=float, default=6e-3, help=f"highest learning rate, after the warm-up {default}")
    add(
        "--warmup", type=positive, default=10, help=f"steps of linear warm-up; cosine decay follows {default}"
    )
    add("--seed", type=int, default=1, help=f"of the weights, the batches and the dropout {default}")
    add("--report-every", type=positive, default=10, metavar="STEPS", help=f"print a line so often {default}")
    add("--checkpoint-every", type=positive, default=20, metavar="STEPS", help=f"save so often {default}")
    saved = "save here, and resume from what is here ($LEPTOND_CHECKPOINT_DIR); without it nothing is saved"
    add("--checkpoint-dir", type=Path, default=os.environ.get("LEPTOND_CHECKPOINT_DIR") or None, help=saved)
    stdlib = sysconfig.get_paths()["stdlib"]
    add("--data-dir", type=Path, default=stdlib, help=f"learn the *.py files below it {default}")
    add("--metrics-file", type=Path, help="append each report as a line of JSON")
    faults = parser.add_argument_group("faults, to see what leptond does about them")
    once = (
        "raise an error after that many steps, unless an earlier attempt ran (leptond says whether one did)"
    )
    faults.add_argument("--fail-once-at-step", type=int, metavar="STEP", help=once)
    faults.add_argument("--slow", type=float, default=0.0, metavar="SECONDS", help="sleep in every step")
    options = parser.parse_args()
    if not 0 <= options.dropout < 1:
        parser.error("argument --dropout: it must be at least 0 and less than 1")
    if not 0 <= options.slow <= 86400:
        parser.error("argument --slow: it must be between 0 and 86400")
    if not options.data_dir.is_dir():
        parser.error(f"there is no directory {options.data_dir}")
    if options.metrics_file is not None and not options.metrics_file.parent.is_dir():
        parser.error(f"there is no directory {options.metrics_file.parent}")
    options.text = read_text(options.data_dir)
    if min(map(len, options.text)) < max(1_000, options.context + 2):
        parser.error(f"there is too little Python source below {options.data_dir}")
    return options


def python_files(directory: Path) -> Iterator[Path]:
    """The *.py files below a directory, without what is installed into it, always in the same order."""
    for place, inner, names in os.walk(directory):
        inner[:] = sorted(set(inner) - {"site-packages", "dist-packages"})
        files = (Path(place, name) for name in sorted(names) if name.endswith(".py"))
        yield from (file for file in files if file.is_file())


def read_text(directory: Path, limit: int = 4_000_000) -> tuple[bytes, bytes]:
    """Training and held-out text: whole files, every tenth one held out, until there is enough."""
    train, held_out = bytearray(), bytearray()
    for number, file in enumerate(python_files(directory)):
        text = file.read_bytes().decode("utf-8", "replace").encode("ascii", "replace")
        (held_out if number % 10 == 1 else train).extend(text)
        if len(train) > limit:
            break
    return bytes(train), bytes(held_out)


def build_model(options: argparse.Namespace) -> nn.Module:
    """A recurrent network, its weights a function of the seed."""
    import torch
    from torch import nn

    class CharModel(nn.Module):
        """Characters in, scores for the next character out."""

        def __init__(self, width: int, layers: int, dropout: float) -> None:
            super().__init__()
            self.embed = nn.Embedding(VOCABULARY, width)
            self.memory = nn.GRU(width, width, layers, batch_first=True)
            self.dropout = nn.Dropout(dropout)
            self.head = nn.Linear(width, VOCABULARY)

        def forward(self, characters: Tensor) -> Tensor:  # (batch, time) -> (batch, time, VOCABULARY)
            states, _ = self.memory(self.embed(characters))
            scores: Tensor = self.head(self.dropout(states))
            return scores

    torch.manual_seed(options.seed)
    return CharModel(options.width, options.layers, options.dropout)


def batch_of(
    data: Tensor, options: argparse.Namespace, step: int, rank: int, world: int
) -> tuple[Tensor, Tensor]:
    """The characters of one step and the ones that follow them, (batch, context) each. All ranks draw the
    same places from seed and step, and each takes its share: no two ranks learn from the same rows, and
    after a resume the data goes on exactly where it was."""
    import torch

    dice = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
    starts = torch.randint(len(data) - options.context - 1, (options.batch * world,), generator=dice)
    rows = torch.stack([data[start : start + options.context + 1] for start in starts[rank::world].tolist()])
    return rows[:, :-1].long(), rows[:, 1:].long()


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint that is whole or not there."""
    import torch

    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def first_attempt() -> bool:
    """Return True if no attempt at this job, nor at one that it is a retry of, ran before."""
    return os.environ.get("LEPTOND_ATTEMPT", "1") == "1" and os.environ.get("LEPTOND_RESUME") != "1"


class Run:
    """One attempt at the training, on one rank."""

    def __init__(self, options: argparse.Namespace) -> None:
        import torch
        from torch import distributed
        from torch.nn.parallel import DistributedDataParallel

        self.options = options
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        on_cuda = torch.cuda.is_available()
        if on_cuda:
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.device)
        else:
            self.device = torch.device("cpu")
            torch.set_num_threads(1)  # each rank is a process of its own
        if self.world > 1:
            distributed.init_process_group(
                "nccl" if on_cuda else "gloo", device_id=self.device if on_cuda else None
            )
        self.train, self.held_out = (
            torch.frombuffer(bytearray(text), dtype=torch.uint8) for text in options.text
        )
        self.plain = build_model(options).to(self.device)
        self.model = DistributedDataParallel(self.plain) if self.world > 1 else self.plain
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=options.lr)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.rate)
        self.checkpoint = options.checkpoint_dir / CHECKPOINT if options.checkpoint_dir else None
        # from here on the dice are thrown for dropout, and the ranks must not throw the same
        torch.manual_seed(options.seed + 1 + self.rank)
        self.step = 0
        self.loss = self.start_loss = math.nan  # mean over the ranks, in the last and in the first step
        self.told_to_stop = False
        signal.signal(signal.SIGTERM, self.on_term)

    def rate(self, step: int) -> float:
        """Factor on the learning rate: linear warm-up, then a cosine down to a tenth."""
        if step < self.options.warmup:
            return (step + 1) / self.options.warmup
        done = (step - self.options.warmup) / max(1, self.options.steps - self.options.warmup)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, done)))

    def on_term(self, *_: Any) -> None:
        """SIGTERM: only notes it. Saving in here could catch the weights in the middle of a change."""
        self.told_to_stop = True

    def say(self, text: str) -> None:
        """A line, from the first rank only."""
        if self.rank == 0:
            print(text, flush=True)

    def resume(self) -> None:
        """Continue from the checkpoint, if there is one."""
        import torch

        if self.checkpoint is None or not self.checkpoint.exists():
            return
        # weights_only: a checkpoint is data, it may not run code
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        self.plain.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if state["dice_of"] == self.device.type and len(state["dice"]) == self.world:
            mine = state["dice"][self.rank]
            torch.cuda.set_rng_state(mine) if self.device.type == "cuda" else torch.set_rng_state(mine)
        self.step, self.loss, self.start_loss = state["step"], state["loss"], state["start_loss"]
        self.say(f"resumed from step {self.step}")

    def save(self) -> None:
        """Every rank gives the state of its dice, rank 0 writes the rest for all: under data parallelism
        every rank holds the same. All ranks must call this after the same step."""
        if self.checkpoint is None:
            return
        dice = self.dice_of_all_ranks()
        if self.rank == 0:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            state = {
                "model": self.plain.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "dice": dice,
                "dice_of": self.device.type,
                "step": self.step,
                "loss": self.loss,
                "start_loss": self.start_loss,
            }
            save(self.checkpoint, state)

    def dice_of_all_ranks(self) -> list[Tensor]:
        """The state of the random numbers, rank by rank."""
        import torch
        from torch import distributed

        mine = torch.cuda.get_rng_state() if self.device.type == "cuda" else torch.get_rng_state()
        if self.world == 1:
            return [mine]
        states = [torch.empty_like(mine, device=self.device) for _ in range(self.world)]
        distributed.all_gather(states, mine.to(self.device))
        return [state.cpu() for state in states]

    def together(self, loss: float) -> tuple[float, bool]:
        """The mean of all ranks' losses, and whether any of them was told to stop: a rank that left alone
        would leave the others waiting for it."""
        if self.world == 1:
            return loss, self.told_to_stop
        import torch
        from torch import distributed

        sums = torch.tensor([loss, float(self.told_to_stop)], device=self.device)
        distributed.all_reduce(sums)
        total, told = sums.tolist()
        return total / self.world, told > 0

    def loss_of(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean cross-entropy, nats a character."""
        from torch.nn import functional as F

        now, following = (part.to(self.device) for part in batch)
        return F.cross_entropy(model(now).reshape(-1, VOCABULARY), following.reshape(-1))

    def held_out_loss(self) -> float:
        """The loss on text that is never trained on; the same batches every time, and for every rank."""
        import torch

        self.model.eval()
        batches = (batch_of(self.held_out, self.options, number, 0, 1) for number in range(4))
        with torch.no_grad():
            losses = [self.loss_of(self.plain, batch).item() for batch in batches]
        self.model.train()
        return sum(losses) / len(losses)

    def report(self, characters_a_second: float) -> None:
        """One line for people, one of JSON for programs. The other ranks know nothing else to tell."""
        if self.rank > 0:
            return
        held_out = self.held_out_loss()
        rate = self.schedule.get_last_lr()[0]
        self.say(
            f"step {self.step}/{self.options.steps}  loss {self.loss:.3f}  held-out {held_out:.3f}"
            f"  lr {rate:.2e}  {characters_a_second:,.0f} char/s"
        )
        if self.options.metrics_file is not None:
            line = {
                "attempt": int(os.environ.get("LEPTOND_ATTEMPT", "1")),
                "rank": self.rank,
                "world_size": self.world,
                "device": str(self.device),
                "step": self.step,
                "loss": self.loss,
                "held_out": held_out,
                "lr": rate,
            }
            with self.options.metrics_file.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def run(self) -> None:
        """Train to the last step, or until told to stop."""
        options = self.options
        self.say(
            f"{sum(p.numel() for p in self.plain.parameters()):,} parameters on {self.device.type}, "
            f"{self.world} rank(s), {len(self.train):,} characters of training text"
        )
        if deadline := os.environ.get("LEPTOND_DEADLINE"):
            self.say(f"this attempt's time limit is in {float(deadline) - time.time():.0f} s")
        self.resume()
        begun, begun_step = time.monotonic(), self.step
        while self.step < options.steps:
            self.loss, stop = self.together(self.one_step())
            if self.step == 1:
                self.start_loss = self.loss
            if self.step % options.report_every == 0 or self.step == options.steps:
                characters = (self.step - begun_step) * options.batch * options.context * self.world
                self.report(characters / (time.monotonic() - begun))
            if stop:
                self.save()
                self.say(f"saved at step {self.step} after SIGTERM" if self.checkpoint else NOT_SAVED)
                return
            if self.step % options.checkpoint_every == 0 or self.step == options.steps:
                self.save()
        self.agree()
        self.say(
            f"final: step={self.step} train_loss={self.loss:.4f} "
            f"heldout_loss={self.held_out_loss():.4f} start_loss={self.start_loss:.4f}"
        )

    def one_step(self) -> float:
        """One optimizer step; the loss before it, of this rank's rows."""
        from torch.nn.utils import clip_grad_norm_

        options = self.options
        if self.step == options.fail_once_at_step and first_attempt():
            raise RuntimeError(f"a fault that goes away, at step {self.step} (--fail-once-at-step)")
        rows = batch_of(self.train, options, self.step, self.rank, self.world)
        loss = self.loss_of(self.model, rows)
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        if options.slow:
            time.sleep(options.slow)
        return float(loss.item())

    def agree(self) -> None:
        """With several ranks: shows that they really trained one model together."""
        if self.world == 1:
            return
        import torch
        from torch import distributed

        with torch.no_grad():
            mine = torch.stack([p.double().sum() for p in self.plain.parameters()]).sum()
        sums = [torch.zeros_like(mine) for _ in range(self.world)]
        distributed.all_gather(sums, mine)
        same = all(torch.equal(one, sums[0]) for one in sums)
        self.say(f"{self.world} ranks hold {'the same' if same else 'DIFFERENT'} weights (sum {mine:.9f})")
        if not same:
            sys.exit(1)

    def close(self) -> None:
        """End the process group. The model goes first: it holds on to the group, whose threads must have
        ended before the interpreter does (else it aborts)."""
        if self.world == 1:
            return
        from torch import distributed

        distributed.barrier()
        del self.model, self.plain, self.optimizer, self.schedule
        gc.collect()
        distributed.destroy_process_group()


def main() -> None:
    """Run the script."""
    # a limit may strike while torch is still being imported: nothing to save yet
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("training: told to stop before the first step"))
    options = arguments()
    run = Run(options)
    run.run()
    run.close()


if __name__ == "__main__":
    main()
