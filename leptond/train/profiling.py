"""Measurements of a training step, to check the arithmetic of :mod:`leptond.train.planning`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn, optim


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Of one rank. `state_bytes`: weights, gradients, optimizer state; `activation_bytes`: what the forward
    pass keeps for the backward pass; `peak_bytes`: the most that CUDA had allocated (None on the CPU);
    `step_s`: the fastest of the steps."""

    parameters: int
    state_bytes: int
    activation_bytes: int
    peak_bytes: int | None
    step_s: float


def profile(
    model: nn.Module,
    optimizer: optim.Optimizer,
    loss_of: Callable[[], Tensor],
    *,
    steps: int = 3,
) -> Profile:
    """Run some steps of a training and measure them. `loss_of` is the forward pass. The model and the
    optimizer are changed by it: profile, then begin anew."""
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    kept: dict[int, int] = {}
    best = float("inf")
    for number in range(steps):
        began = time.perf_counter()
        if number == 0:
            loss = _counting(model, loss_of, kept)
        else:
            loss = loss_of()
        loss.backward()
        optimizer.step()
        if number == 0:
            state = _state_bytes(model, optimizer)
        optimizer.zero_grad(set_to_none=True)
        del loss
        if on_gpu:
            torch.cuda.synchronize(device)
        if number > 0 or steps == 1:
            best = min(best, time.perf_counter() - began)
    return Profile(
        parameters=sum(p.numel() for p in model.parameters()),
        state_bytes=state,
        activation_bytes=sum(kept.values()),
        peak_bytes=torch.cuda.max_memory_allocated(device) if on_gpu else None,
        step_s=best,
    )


def _counting(model: nn.Module, loss_of: Callable[[], Tensor], kept: dict[int, int]) -> Tensor:
    """The loss, with the bytes that autograd keeps for it in `kept`, by storage; weights are not counted."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held: list[Any] = []  # as long as it is held, a storage's address is not given to another

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        return loss_of()


def _state_bytes(model: nn.Module, optimizer: optim.Optimizer) -> int:
    """Weights, gradients, and what the optimizer keeps."""
    tensors: list[Tensor] = []
    for parameter in model.parameters():
        tensors.append(parameter)
        if parameter.grad is not None:
            tensors.append(parameter.grad)
    for state in optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
