"""Habits that make a step cheaper, each one a switch: mixed precision, accumulation, recomputed activations,
compilation, loaders that work ahead, and a batch that shrinks when the GPU is out of memory."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from leptond import job

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Mixed precision by name: ``fp32`` (none), ``bf16``, or ``fp16`` with a scaled loss.
    ``Training(..., precision=precision)`` does all but the forward pass, and keeps the scale in its
    checkpoints; without it:

    with precision.forward():
        loss = loss_of(model(rows), following)
    precision.backward(loss)
    precision.step(optimizer, clip=1.0)
    """

    def __init__(self, name: str, device: torch.device | str = "cpu") -> None:
        if name != "fp32" and name not in _TYPES:
            raise ValueError(f"there is no precision {name!r}; there are fp32, {', '.join(_TYPES)}")
        self.name = name
        self.device = torch.device(device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=name == "fp16")

    def forward(self) -> Any:
        """The context of a forward pass."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=_TYPES[self.name])

    def backward(self, loss: Tensor) -> None:
        """The gradients of a loss, scaled where that is needed."""
        self.scaler.scale(loss).backward()

    def unscale(self, optimizer: optim.Optimizer) -> None:
        """Gradients as they are without a scale, for who looks at them before :meth:`step`; once a step."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: optim.Optimizer, *, clip: float = 0.0) -> bool:
        """The optimizer's step, which fp16 leaves out, with half the scale from then on, when a gradient is
        not finite; whether it was done."""
        if clip:
            self.unscale(optimizer)
            for group in optimizer.param_groups:
                nn.utils.clip_grad_norm_(group["params"], clip)
        before = self.scaler.get_scale()
        self.scaler.step(optimizer)
        self.scaler.update()
        return self.scaler.get_scale() >= before

    def state_dict(self) -> dict[str, Any]:
        """The scale of the loss."""
        state: dict[str, Any] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with that scale. That of another precision is left alone."""
        if state and self.scaler.is_enabled():
            self.scaler.load_state_dict(state)


def micro_batches(batch: Sequence[Tensor], parts: int) -> Iterator[tuple[float, tuple[Tensor, ...]]]:
    """A batch in `parts`, each with its share of the rows: the sum of ``share * loss`` is the mean loss of
    the whole, so that accumulating gradients changes nothing but the memory.

    for share, (rows, following) in micro_batches(batch, 4):
        (share * loss_of(model(rows), following)).backward()
    """
    rows = len(batch[0])
    if not 1 <= parts <= rows:
        raise ValueError(f"{rows} rows cannot be cut into {parts} parts")
    for part in zip(*(tensor.tensor_split(parts) for tensor in batch), strict=True):
        yield len(part[0]) / rows, part


def recompute(model: nn.Module) -> nn.Module:
    """Let every part of the model (``model.parts()``, else its children) compute its activations again in
    the backward pass instead of keeping them: a third more work, a fraction of the memory. In place."""
    for part in model.parts() if hasattr(model, "parts") else model.children():
        part.forward = functools.partial(checkpoint, part.forward, use_reentrant=False)
    return model


def compile_parts(model: nn.Module, *, backend: str = "inductor") -> nn.Module:
    """Compile every part of the model; equal parts share what was compiled, so it takes the time of one. In
    place: the names in a checkpoint stay as they are."""
    for part in model.parts() if hasattr(model, "parts") else model.children():
        part.compile(backend=backend)
    return model


class Loader:
    """Batches without end from a map-style dataset, in an order that is a function of the seed: workers
    prepare them ahead, and into pinned memory where there is a GPU. It goes on exactly where a checkpoint
    left off (``Training(..., state={"loader": loader})``): what was prepared but not used is prepared again.
    Chances that a dataset takes itself are another matter: make them a function of the row.
    """

    def __init__(self, dataset: Any, batch: int, *, seed: int = 0, workers: int = 0, ahead: int = 2) -> None:
        if not 1 <= batch <= len(dataset):
            raise ValueError(f"a batch of {batch} from a dataset of {len(dataset)}")
        self.dataset = dataset
        self.batch = batch
        self.seed = seed
        self.workers = workers
        self.ahead = ahead
        self.position = 0
        self._batches: Iterator[Any] | None = None

    def __iter__(self) -> Loader:
        return self

    def __len__(self) -> int:
        """Batches in one time through the data, after which it goes on with the next: an epoch for who counts
        in them."""
        return int(len(self.dataset) // self.batch)

    def __next__(self) -> Any:
        if self._batches is None:
            self._batches = iter(
                DataLoader(
                    self.dataset,
                    batch_sampler=self._order(self.position),
                    num_workers=self.workers,
                    pin_memory=torch.cuda.is_available(),
                    prefetch_factor=self.ahead if self.workers else None,
                    # else each of them takes a number out of the model's own dice, and a resume one more
                    generator=torch.Generator().manual_seed(self.seed),
                )
            )
        one = next(self._batches)
        self.position += 1
        return one

    def _order(self, position: int) -> Any:
        return _Order(len(self.dataset), self.batch, self.seed, position)

    def state_dict(self) -> dict[str, Any]:
        """The number of batches that were used."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind them."""
        self.position, self._batches = state["position"], None


class _Order:
    """The rows of each batch from number `position` on: a new permutation for each time through, of which
    the rows that do not fill a batch are left out."""

    def __init__(self, rows: int, batch: int, seed: int, position: int) -> None:
        self.rows, self.batch, self.seed, self.position = rows, batch, seed, position

    def __iter__(self) -> Iterator[list[int]]:
        each = self.rows // self.batch
        epoch, number = divmod(self.position, each)
        while True:
            dice = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            order = torch.randperm(self.rows, generator=dice).tolist()
            for place in range(number, each):
                yield order[place * self.batch : (place + 1) * self.batch]
            epoch, number = epoch + 1, 0


class ShrinkingBatch:
    """Into how many parts a batch of `rows` has to be cut to fit into the GPU's memory, found out by the job
    itself: when a step runs out of memory the number doubles, is kept in the checkpoint directory, and the
    job leaves to be run again (exit code 75). The batch of a step stays the same.

    with shrinking.watch():
        for share, part in micro_batches(batch, shrinking.parts):
            ...
    """

    FILE = "micro-batches.json"

    def __init__(self, directory: Path | str | None, rows: int) -> None:
        self.directory = Path(directory) if directory is not None else None
        self.rows = rows
        self.parts = 1
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if self.directory is not None:
                self.parts = min(rows, int(json.loads((self.directory / self.FILE).read_text())["parts"]))

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Look for CUDA's out-of-memory error in a step; one that a batch of single rows meets as well is
        passed on."""
        try:
            yield
        except torch.OutOfMemoryError:
            if self.directory is None or self.parts >= self.rows:
                raise
            self.parts = min(self.rows, 2 * self.parts)
            self.directory.mkdir(parents=True, exist_ok=True)
            temporary = self.directory / f".{self.FILE}.tmp"
            temporary.write_text(json.dumps({"parts": self.parts}))
            os.replace(temporary, self.directory / self.FILE)  # noqa: PTH105 - whole or not at all
            job.leave("resume", f"out of GPU memory: goes on with {self.parts} parts a batch")
