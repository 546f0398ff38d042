"""A small character language model, trained on the source of Python's own standard library.

An ordinary torch script that shows what a good leptond job does: it saves checkpoints where leptond says
($LEPTOND_CHECKPOINT_DIR), continues from them on a retry, and on SIGTERM finishes its step, saves and
leaves. It runs alone, on CUDA or on the CPU, and under torchrun on several ranks:

    leptonctl submit --gpus 1 --retries 3 --time 1h -- python char_lm.py --steps 1000
    leptonctl submit --gpus 2 -- torchrun --nproc-per-node 2 char_lm.py --steps 1000
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

VOCABULARY = 128  # ASCII; anything else reads as '?'
CHECKPOINT = "char_lm.pt"


def arguments() -> argparse.Namespace:
    """The command line. torch is imported only after it is understood: mistakes are told at once."""
    parser = argparse.ArgumentParser(description="Train a character language model on Python source code.")
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps in all, over all attempts")
    parser.add_argument("--batch", type=int, default=16, help="sequences a step and rank")
    parser.add_argument("--context", type=int, default=64, help="characters a sequence")
    parser.add_argument("--width", type=int, default=96, help="size of the model's vectors")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--lr", type=float, default=3e-3, help="highest learning rate (after the warm-up)")
    parser.add_argument("--warmup", type=int, default=10, help="steps of linear warm-up; then cosine decay")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report-every", type=int, default=10, metavar="STEPS")
    parser.add_argument("--checkpoint-every", type=int, default=20, metavar="STEPS")
    parser.add_argument("--data-dir", type=Path, help="*.py files below it (default: the standard library)")
    parser.add_argument("--checkpoint-dir", type=Path, default=os.environ.get("LEPTOND_CHECKPOINT_DIR"))
    parser.add_argument("--metrics-file", type=Path, help="append each report as a line of JSON")
    faults = parser.add_argument_group("faults, to see what leptond does about them")
    faults.add_argument(
        "--fail-once-at-step", type=int, metavar="STEP", help="die there, in the first attempt"
    )
    faults.add_argument("--slow", type=float, default=0.0, metavar="SECONDS", help="sleep in every step")
    options = parser.parse_args()
    if options.data_dir is None:
        options.data_dir = Path(sysconfig.get_paths()["stdlib"])
    if not options.data_dir.is_dir():
        parser.error(f"there is no directory {options.data_dir}")
    return options


def read_text(directory: Path, limit: int = 4_000_000) -> tuple[bytes, bytes]:
    """Training and held-out text: whole files in sorted order, every tenth one held out."""
    train, held_out = bytearray(), bytearray()
    files = (file for file in sorted(directory.rglob("*.py")) if "site-packages" not in file.parts)
    for number, file in enumerate(files):
        text = file.read_bytes().decode("utf-8", "replace").encode("ascii", "replace")
        (held_out if number % 10 == 9 else train).extend(text)
        if len(train) > limit:
            break
    if len(train) < 10_000 or len(held_out) < 1_000:
        sys.exit(f"char_lm: too little Python source below {directory}")
    return bytes(train), bytes(held_out)


def build_model(options: argparse.Namespace) -> nn.Module:
    """A causal transformer, its weights a function of the seed."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        """Attention over what came before, then a two-layer network, each beside a shortcut."""

        def __init__(self, width: int, heads: int = 4) -> None:
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv = nn.Linear(width, 3 * width)
            self.out = nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Tensor) -> Tensor:  # (batch, time, width), in and out
            batch, length, width = x.shape
            shape = (batch, length, 3, self.heads, width // self.heads)
            q, k, v = self.qkv(self.norm1(x)).view(shape).permute(2, 0, 3, 1, 4)
            seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class CharModel(nn.Module):
        """Characters in, scores for the next character out."""

        def __init__(self, width: int, layers: int, context: int) -> None:
            super().__init__()
            self.embed = nn.Embedding(VOCABULARY, width)
            self.place = nn.Parameter(torch.zeros(context, width))
            self.blocks = nn.Sequential(*(Block(width) for _ in range(layers)))
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, VOCABULARY)

        def forward(self, characters: Tensor) -> Tensor:  # (batch, time) -> (batch, time, VOCABULARY)
            x = self.embed(characters) + self.place[: characters.shape[1]]
            scores: Tensor = self.head(self.norm(self.blocks(x)))
            return scores

    torch.manual_seed(options.seed)
    return CharModel(options.width, options.layers, options.context)


def batch_of(
    data: Tensor, options: argparse.Namespace, step: int, rank: int, device: Any
) -> tuple[Tensor, Tensor]:
    """The characters of one step and the ones that follow them, (batch, context) each. A function of seed,
    step and rank: after a resume the data goes on exactly where it was."""
    import torch

    dice = torch.Generator().manual_seed((options.seed * 1_000_003 + step) * 4096 + rank)
    starts = torch.randint(len(data) - options.context - 1, (options.batch,), generator=dice)
    rows = torch.stack([data[start : start + options.context + 1] for start in starts.tolist()])
    rows = rows.to(device=device, dtype=torch.long)
    return rows[:, :-1], rows[:, 1:]


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint that is whole or not there."""
    import torch

    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class Run:
    """One attempt at the training, on one rank."""

    def __init__(self, options: argparse.Namespace) -> None:
        import torch
        from torch import distributed
        from torch.nn.parallel import DistributedDataParallel

        self.options = options
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if torch.cuda.is_available():
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(self.device)
        else:
            self.device = torch.device("cpu")
            torch.set_num_threads(1)
        if self.world > 1:
            distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        train, held_out = read_text(options.data_dir)
        self.train = torch.frombuffer(bytearray(train), dtype=torch.uint8)
        self.held_out = torch.frombuffer(bytearray(held_out), dtype=torch.uint8)
        self.plain = build_model(options).to(self.device)
        self.model = DistributedDataParallel(self.plain) if self.world > 1 else self.plain
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=options.lr)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.rate)
        self.checkpoint = options.checkpoint_dir / CHECKPOINT if options.checkpoint_dir else None
        self.step = 0
        self.first_loss: float | None = None
        self.told_to_stop = False
        signal.signal(signal.SIGTERM, self.on_term)

    def rate(self, step: int) -> float:
        """Factor on the learning rate: linear warm-up, then a cosine down to a tenth."""
        if step < self.options.warmup:
            return (step + 1) / self.options.warmup
        done = (step - self.options.warmup) / max(1, self.options.steps - self.options.warmup)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, done)))

    def on_term(self, *_: Any) -> None:
        """SIGTERM: finish the step first."""
        self.told_to_stop = True

    def say(self, text: str) -> None:
        """A line, from the first rank only."""
        if self.rank == 0:
            print(text, flush=True)

    def resume(self) -> None:
        """Continues from the checkpoint, if there is one."""
        import torch

        if self.checkpoint is None or not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.plain.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.first_loss = state["step"], state["first_loss"]
        self.say(f"resumed from step {self.step}")

    def save(self) -> None:
        """Rank 0 writes for all: under data parallelism every rank holds the same."""
        if self.rank == 0 and self.checkpoint is not None:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            state = {
                "model": self.plain.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "step": self.step,
                "first_loss": self.first_loss,
            }
            save(self.checkpoint, state)

    def stop_wanted(self) -> bool:
        """Whether any rank was told to stop: they must leave after the same step."""
        if self.world == 1:
            return self.told_to_stop
        import torch
        from torch import distributed

        flag = torch.tensor([float(self.told_to_stop)], device=self.device)
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag.item())

    def loss_of(self, data: Tensor, step: int, rank: int) -> Tensor:
        """Mean cross-entropy, nats a character."""
        from torch.nn import functional as F

        now, following = batch_of(data, self.options, step, rank, self.device)
        scores = self.model(now)
        return F.cross_entropy(scores.reshape(-1, VOCABULARY), following.reshape(-1))

    def held_out_loss(self) -> float:
        """The loss on text that is never trained on; the same batches every time."""
        import torch

        self.model.eval()
        with torch.no_grad():
            losses = [self.loss_of(self.held_out, number, 4095).item() for number in range(4)]
        self.model.train()
        return sum(losses) / len(losses)

    def report(self, loss: float, held_out: float, characters_a_second: float) -> None:
        """One line for people, one of JSON for programs."""
        rate = self.schedule.get_last_lr()[0]
        self.say(
            f"step {self.step}/{self.options.steps}  loss {loss:.3f}  held-out {held_out:.3f}"
            f"  lr {rate:.2e}  {characters_a_second:,.0f} char/s"
        )
        if self.rank == 0 and self.options.metrics_file is not None:
            line = {
                "attempt": int(os.environ.get("LEPTOND_ATTEMPT", "1")),
                "world_size": self.world,
                "device": str(self.device),
                "step": self.step,
                "loss": loss,
                "held_out": held_out,
                "lr": rate,
            }
            with self.options.metrics_file.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def run(self) -> None:
        """Trains to the last step, or until told to stop."""
        options = self.options
        self.say(
            f"{sum(p.numel() for p in self.plain.parameters()):,} parameters on {self.device.type}, "
            f"{self.world} rank(s), {len(self.train):,} characters of training text"
        )
        self.resume()
        begun, begun_step, loss = time.monotonic(), self.step, float("nan")
        while self.step < options.steps:
            loss = self.one_step()
            if self.first_loss is None:
                self.first_loss = loss
            if self.step % options.report_every == 0 or self.step == options.steps:
                characters = (self.step - begun_step) * options.batch * options.context * self.world
                self.report(loss, self.held_out_loss(), characters / (time.monotonic() - begun))
            if self.step % options.checkpoint_every == 0:
                self.save()
            if self.stop_wanted():
                self.save()
                self.say(f"saved at step {self.step} after SIGTERM")
                break
        else:
            self.save()
            self.say(f"done: loss {self.first_loss or loss:.3f} -> held-out {self.held_out_loss():.3f}")
            self.agree()

    def one_step(self) -> float:
        """One optimizer step; the loss before it."""
        from torch.nn.utils import clip_grad_norm_

        options = self.options
        if self.step == options.fail_once_at_step and os.environ.get("LEPTOND_ATTEMPT", "1") == "1":
            raise RuntimeError(f"a fault that goes away, at step {self.step} (--fail-once-at-step)")
        loss = self.loss_of(self.train, self.step, self.rank)
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

        mine = sum(p.detach().double().sum() for p in self.plain.parameters())
        sums = [torch.zeros((), dtype=torch.double, device=self.device) for _ in range(self.world)]
        distributed.all_gather(sums, torch.as_tensor(mine, device=self.device))
        same = all(torch.equal(one, sums[0]) for one in sums)
        self.say(f"{self.world} ranks hold {'the same' if same else 'DIFFERENT'} weights")
        if not same:
            sys.exit(1)

    def close(self) -> None:
        """Ends the process group. The model goes first: it holds on to the group, whose threads must have
        ended before the interpreter does (else it aborts)."""
        if self.world == 1:
            return
        from torch import distributed

        distributed.barrier()
        del self.model, self.plain, self.optimizer, self.schedule
        gc.collect()
        distributed.destroy_process_group()


def main() -> None:
    """Runs the script."""
    options = arguments()
    # a limit may strike while torch is still being imported: nothing to save yet
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("char_lm: told to stop before the first step"))
    run = Run(options)
    run.run()
    run.close()


if __name__ == "__main__":
    main()
