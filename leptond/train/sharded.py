"""Checkpoints of a training whose parts lie on several ranks, through torch's distributed checkpoint: every
rank writes what it holds, and any number of ranks under any plan reads it back."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed, nn, optim
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from leptond.train.checkpoint import CheckpointError, Checkpoints, Found

EXTRA = "extra.pt"
_OPTIONS = StateDictOptions(flatten_optimizer_state_dict=True)
"""Flattened: the optimizer's state is kept by the name of the parameter, which is the same under every plan,
and not by parameter groups, which are not."""


def _world() -> tuple[int, int]:
    """Rank and number of ranks."""
    if distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _together() -> None:
    if distributed.is_initialized():
        distributed.barrier()


def _from_first(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    if not distributed.is_initialized():
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


@contextlib.contextmanager
def _alone_is_meant() -> Iterator[None]:
    """Without torch's warning that one process, alone, reads or writes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _state(model: nn.Module, optimizer: optim.Optimizer, *, fresh: bool) -> dict[str, Any]:
    """What goes to and comes from disk. A `fresh` optimizer has no state yet, and must not be asked for it:
    torch would make one by a step of its own, which counts in Adam's corrections ever after."""
    state = {"model": get_model_state_dict(model, options=_OPTIONS)}
    if not fresh:
        state["optimizer"] = get_optimizer_state_dict(model, optimizer, options=_OPTIONS)
    return state


def save(
    checkpoints: Checkpoints,
    step: int,
    model: nn.Module,
    optimizer: optim.Optimizer,
    *,
    extra: dict[str, Any],
    mine: dict[str, Any],
    loss: float | None = None,
    generation: int = 0,
) -> None:
    """Saves from every rank, and returns when it is on disk. `extra` is the same on all ranks (rank 0's is
    kept), `mine` is this rank's own, such as its random states. Raises CheckpointError, on every rank."""
    if checkpoints.directory is None:
        return
    rank, world = _world()
    temporary = checkpoints.begin(step, generation) if rank == 0 else None
    temporary = _from_first(temporary)
    fresh = not optimizer.state
    try:
        with _alone_is_meant():
            dcp.save(_state(model, optimizer, fresh=fresh), checkpoint_id=temporary)
        torch.save(mine, temporary / f"rank-{rank}.pt")
        fault = None
    except (OSError, RuntimeError) as error:
        fault = f"the checkpoint of step {step} could not be written by rank {rank}: {error}"
    faults = [fault]
    if distributed.is_initialized():
        faults = [None] * world
        distributed.all_gather_object(faults, fault)
    if rank == 0 and not any(faults):
        try:
            torch.save({"extra": extra, "world": world, "fresh": fresh}, temporary / EXTRA)
            checkpoints.finish(temporary, step, generation, loss)
        except (OSError, RuntimeError) as error:
            faults = [f"the checkpoint of step {step} could not be written: {error}"]
    fault = _from_first(next((one for one in faults if one), None))
    if fault is not None:
        raise CheckpointError(fault)


def newest(checkpoints: Checkpoints, before: int | None = None) -> Found | None:
    """The newest whole checkpoint (of a step below `before`), as rank 0 sees it: every rank goes on from the
    same one."""
    rank, _ = _world()
    found: Found | None = _from_first(checkpoints.newest(before) if rank == 0 else None)
    return found


def load(
    found: Found, model: nn.Module, optimizer: optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Puts a checkpoint into the model and the optimizer of every rank: `extra`, and this rank's `mine` if
    as many ranks wrote it as now read it. Raises CheckpointError."""
    rank, world = _world()
    try:
        kept = torch.load(found.path / EXTRA, map_location="cpu", weights_only=True)
        state = _state(model, optimizer, fresh=kept["fresh"])
        with _alone_is_meant():
            dcp.load(state, checkpoint_id=found.path)
        mine = None
        if kept["world"] == world:
            mine = torch.load(found.path / f"rank-{rank}.pt", map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, KeyError) as error:
        raise CheckpointError(f"{found.path} cannot be read: {error}") from error
    set_model_state_dict(model, state["model"], options=_OPTIONS)
    if kept["fresh"]:
        optimizer.state.clear()
    else:
        set_optimizer_state_dict(model, optimizer, state["optimizer"], options=_OPTIONS)
    return kept["extra"], mine
