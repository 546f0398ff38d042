"""A training of a few steps, for what it makes torch load.

Runs in a throw-away process of a zygote. Each part may fail by itself: releases of torch differ, and what one
does not have, its trainings do not load either."""

from __future__ import annotations

import contextlib
import importlib
import io

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def train() -> None:
    """Use what nearly every training uses."""
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    for part in (_steps, _data, _mixed_precision, _schedule, _save, _launch):
        with contextlib.suppress(Exception):
            part(torch, model)


def _step(torch: Any, model: Any, optimizer: Any) -> None:
    loss = torch.nn.functional.mse_loss(model(torch.ones(2, 4)), torch.zeros(2, 1))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    loss.item()


def _steps(torch: Any, model: Any) -> None:
    for kind in (torch.optim.AdamW, torch.optim.SGD, torch.optim.Adam):
        _step(torch, model, kind(model.parameters(), lr=0.1))


def _data(torch: Any, model: Any) -> None:
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    for (batch,) in DataLoader(TensorDataset(torch.ones(4, 4)), batch_size=2, shuffle=True):
        model(batch)
    with torch.no_grad():
        model.eval()(torch.ones(1, 4))


def _mixed_precision(torch: Any, model: Any) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.ones(2, 4))
    make: Callable[..., Any] = torch.amp.GradScaler
    make("cuda", enabled=False)


def _schedule(torch: Any, model: Any) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    _step(torch, model, optimizer)
    schedule.step()


def _save(torch: Any, model: Any) -> None:
    file = io.BytesIO()
    torch.save({"model": model.state_dict()}, file)
    file.seek(0)
    model.load_state_dict(torch.load(file, weights_only=True))


def _launch(torch: Any, model: Any) -> None:
    """Load what torchrun is."""
    for name in ("run", "elastic.rendezvous.c10d_rendezvous_backend"):
        importlib.import_module(f"torch.distributed.{name}")
