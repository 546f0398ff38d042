"""The cost and the gain of each switch of :mod:`leptond.train.costs` on this machine, measured on a small
transformer over real text.

    python -m leptond.train.measure [--width 128] [--layers 4] [--context 128] [--batch 16] [--json]

Time: steps without and with the switch in turn, so that both see the same machine; the median of each, and of
the quotients of the pairs. Memory: the most that a step takes on top of what was there before it (weights and
optimizer state), by CUDA's counter, or on the CPU by the kernel's high-water mark of a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import statistics
import sysconfig
import time
import tokenize
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from leptond.train.costs import Loader, Precision, compile_parts, micro_batches, recompute
from leptond.train.gpt import Gpt, GptConfig, next_token_loss
from leptond.train.schedule import make_optimizer
from leptond.train.text import read_text

Step = Callable[[], None]
PARTS = 4
WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Of one switch, against a step without it. `ratio` is the median quotient of the pairs, `first_s` the
    time of its first step (what compiling takes)."""

    switch: str
    plain_s: float
    with_s: float
    ratio: float
    plain_bytes: int
    with_bytes: int
    first_s: float


class Rows:
    """Rows of Python's tokens, each read from a file of the standard library when it is asked for: what
    preparing a batch in Python costs."""

    def __init__(self, context: int) -> None:
        self.files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        self.context = context

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> Tensor:
        numbers: list[int] = []
        with self.files[row].open("rb") as file, contextlib.suppress(tokenize.TokenError, SyntaxError):
            for token in tokenize.tokenize(file.readline):
                numbers.append(zlib.crc32(token.string.encode()) % 128)
                if len(numbers) > 10 * self.context:
                    break
        numbers = numbers[-self.context - 1 :]  # from the midst of the file
        return torch.tensor(numbers + [0] * (self.context + 1 - len(numbers)))


def make_step(options: argparse.Namespace, switch: str, text: Tensor) -> Step:
    """One whole step of a fresh training with (or, for "plain" and "loader-plain", without) a switch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(1)
    sizes = {name: getattr(options, name) for name in ("width", "layers", "context")}
    model = Gpt(GptConfig(**sizes)).to(device)
    optimizer = make_optimizer("adamw", model.parameters(), lr=1e-3)
    precision = Precision(switch if switch in ("bf16", "fp16") else "fp32", device)
    if switch == "recompute":
        recompute(model)
    if switch == "compile":
        compile_parts(model)
    parts = PARTS if switch == "accumulate" else 1
    batches: Iterator[Tensor]
    if switch.startswith("loader"):
        workers = 0 if switch == "loader-plain" else WORKERS
        batches = Loader(Rows(options.context), options.batch, workers=workers)
    else:
        whole = text[: options.batch * (options.context + 1)].long().view(options.batch, -1).to(device)
        batches = iter(lambda: whole, None)

    def step() -> None:
        batch = next(batches).to(device, non_blocking=True)
        for share, (rows,) in micro_batches((batch,), parts):
            with precision.forward():
                loss = share * next_token_loss(model(rows[:, :-1]), rows[:, 1:])
            precision.backward(loss)
        precision.step(optimizer)
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def timed(step: Step) -> float:
    """Seconds of a step."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def peak_bytes(make: Callable[[], Step]) -> int:
    """The most that a step takes on top of what was there before it."""
    if torch.cuda.is_available():
        step = make()
        step()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return int(torch.cuda.max_memory_allocated() - before)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            libc = ctypes.CDLL(None)
            libc.mallopt(-3, 1 << 16)  # M_MMAP_THRESHOLD: what is freed goes back to the kernel at once
            step = make()
            step()  # the optimizer's state, and what the allocator keeps, are there from now on
            libc.malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): the high-water mark begins anew
            before = status_bytes("VmRSS")
            step()
            os.write(write, str(status_bytes("VmHWM") - before).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return int(said or 0)


def status_bytes(name: str) -> int:
    """A line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def effect(options: argparse.Namespace, switch: str, text: Tensor) -> Effect:
    """Measure one switch."""
    plain = "loader-plain" if switch == "loader" else "plain"
    makers = [partial(make_step, options, one, text) for one in (plain, switch)]
    # a compiler's threads do not go with forks, and it is there for speed
    memory = [0, 0] if switch == "compile" else [peak_bytes(make) for make in makers]
    without, with_it = (make() for make in makers)
    timed(without)
    first_s = timed(with_it)
    for one in (without, with_it):
        one()  # the second step of a compiled one may compile again
    pairs = [(timed(without), timed(with_it)) for _ in range(options.rounds)]
    return Effect(
        switch=switch,
        plain_s=statistics.median(a for a, _ in pairs),
        with_s=statistics.median(b for _, b in pairs),
        ratio=statistics.median(b / a for a, b in pairs),
        plain_bytes=memory[0],
        with_bytes=memory[1],
        first_s=first_s,
    )


SWITCHES = ("bf16", "fp16", "accumulate", "recompute", "compile", "loader")


def main() -> None:
    """Print a table, or a line of JSON for each switch."""
    parser = argparse.ArgumentParser(prog="python -m leptond.train.measure", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    for name, size in {"width": 128, "layers": 4, "context": 128, "batch": 16, "rounds": 7}.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--only", default=",".join(SWITCHES), help=f"[{','.join(SWITCHES)}]")
    parser.add_argument("--threads", type=int, default=1, help="of torch, on the CPU [1]")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if not set(wanted) <= set(SWITCHES):
        parser.error(f"--only {options.only}: the switches are {', '.join(SWITCHES)}")
    torch.set_num_threads(options.threads)
    text = read_text()
    on = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {options.threads} thread(s)"
    if not options.json:
        print(f"{on}, torch {torch.__version__}")
        heads = f"{'memory':>10} {'with it':>10} {'first':>8}"
        print(f"{'switch':12} {'step':>10} {'with it':>10} {'time':>7} {heads}")
    for switch in wanted:
        one = effect(options, switch, text)
        if options.json:
            print(json.dumps({"device": on, **asdict(one)}), flush=True)
            continue
        sizes = [f"{size / 2**20:.1f} MiB" if size else "-" for size in (one.plain_bytes, one.with_bytes)]
        print(
            f"{switch:12} {1e3 * one.plain_s:7.1f} ms {1e3 * one.with_s:7.1f} ms {one.ratio:6.2f}x"
            f" {sizes[0]:>10} {sizes[1]:>10} {one.first_s:6.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
