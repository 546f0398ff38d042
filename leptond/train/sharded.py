"""Checkpoints of a training whose parts lie on several ranks, through torch's distributed checkpoint: every
rank writes what it holds, and any number of ranks under any plan reads it back."""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn, optim
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import BlockingAsyncStager
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from leptond.train.checkpoint import CheckpointError, Checkpoints, Found, snapshot

EXTRA = "extra.pt"
_OPTIONS = StateDictOptions(flatten_optimizer_state_dict=True)
"""Flattened: the optimizer's state is kept by the name of the parameter, which is the same under every plan,
and not by parameter groups, which are not."""

_TROUBLE = (OSError, RuntimeError, CheckpointException)
"""The errors of reading and writing; torch's distributed checkpoint wraps every rank's in one of its own."""


def _world() -> tuple[int, int]:
    """Rank and number of ranks."""
    if distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _from_first(value: Any, group: Any = None) -> Any:
    """Rank 0's value, on every rank."""
    if not distributed.is_initialized():
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0, group=group)
    return values[0]


@contextlib.contextmanager
def _alone_is_meant() -> Iterator[None]:
    """Without torch's warning that one process, alone, reads or writes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _state(model: nn.Module, optimizer: optim.Optimizer, *, fresh: bool) -> dict[str, Any]:
    """The state that is written and read. A `fresh` optimizer has no state yet, and must not be asked for it:
    torch would make one by a step of its own, which counts in Adam's corrections ever after."""
    state = {"model": get_model_state_dict(model, options=_OPTIONS)}
    if not fresh:
        state["optimizer"] = get_optimizer_state_dict(model, optimizer, options=_OPTIONS)
    return state


class Writer:
    """Saves from every rank into `checkpoints`. Made on all ranks together. It talks through a process group
    of its own (gloo), so that it and the training's collectives do not get in each other's way."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.rank, self.world = _world()
        self._group = distributed.new_group(backend="gloo") if distributed.is_initialized() else None

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: optim.Optimizer,
        *,
        extra: dict[str, Any],
        mine: dict[str, Any],
        loss: float | None = None,
        generation: int = 0,
        background: bool = True,
    ) -> None:
        """Save on all ranks in the same step. `extra` is the same on all of them (rank 0's is kept), `mine`
        is this rank's own, such as its random states. In the background a copy is taken now, in the CPU's
        memory, and written by a thread; a failure then is logged, and raised by the next
        `checkpoints.wait()`. Otherwise raises CheckpointError; in both cases on every rank."""
        if self.checkpoints.directory is None:
            return
        self.checkpoints.join()
        fresh = not optimizer.state
        state = _state(model, optimizer, fresh=fresh)
        if background:
            state = BlockingAsyncStager().stage(state)
        extra, mine = snapshot({"extra": extra, "world": self.world, "fresh": fresh}), snapshot(mine)

        def write() -> None:
            try:
                self._write(step, generation, loss, state, extra, mine)
            except RuntimeError as error:  # another rank is gone
                raise CheckpointError(
                    f"the checkpoint of step {step} could not be written: {error}"
                ) from error

        self.checkpoints.run(write, background=background)

    def _write(
        self,
        step: int,
        generation: int,
        loss: float | None,
        state: dict[str, Any],
        extra: dict[str, Any],
        mine: dict[str, Any],
    ) -> None:
        begun: Path | str | None = None
        if self.rank == 0:
            try:
                begun = self.checkpoints.begin(step, generation)
            except CheckpointError as error:
                begun = str(error)
        begun = _from_first(begun, self._group)
        if not isinstance(begun, Path):
            raise CheckpointError(begun)
        fault = None
        try:
            with _alone_is_meant():
                dcp.save(state, checkpoint_id=begun, process_group=self._group)
            torch.save(mine, begun / f"rank-{self.rank}.pt")
        except _TROUBLE as error:
            fault = f"the checkpoint of step {step} could not be written by rank {self.rank}: {error}"
        faults = [fault]
        if self._group is not None:
            faults = [None] * self.world
            distributed.all_gather_object(faults, fault, group=self._group)
        if self.rank == 0 and not any(faults):
            try:
                torch.save(extra, begun / EXTRA)
                self.checkpoints.finish(begun, step, generation, loss)
            except _TROUBLE as error:
                faults = [f"the checkpoint of step {step} could not be written: {error}"]
        if self.rank == 0 and any(faults):
            shutil.rmtree(begun, ignore_errors=True)
        fault = _from_first(next((one for one in faults if one), None), self._group)
        if fault is not None:
            raise CheckpointError(fault)


def newest(checkpoints: Checkpoints, before: int | None = None) -> Found | None:
    """The newest whole checkpoint (of a step below `before`), as rank 0 sees it: every rank goes on from the
    same one."""
    rank, _ = _world()
    checkpoints.join()
    found: Found | None = _from_first(checkpoints.newest(before) if rank == 0 else None)
    return found


def load(
    found: Found, model: nn.Module, optimizer: optim.Optimizer
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Put a checkpoint into the model and the optimizer of every rank: `extra`, and this rank's `mine` if
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
    except (*_TROUBLE, KeyError) as error:
        raise CheckpointError(f"{found.path} cannot be read: {error}") from error
    set_model_state_dict(model, state["model"], options=_OPTIONS)
    if kept["fresh"]:
        optimizer.state.clear()
    else:
        set_optimizer_state_dict(model, optimizer, state["optimizer"], options=_OPTIONS)
    return kept["extra"], mine


def names_of(model: nn.Module, optimizer: optim.Optimizer) -> list[list[str]]:
    """The names of the parameters that an optimizer looks after, by its groups. What is no parameter of the
    model has an empty name."""
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[by_id.get(id(one), "") for one in group["params"]] for group in optimizer.param_groups]


def spread(kept: dict[str, Any], model: nn.Module, optimizer: optim.Optimizer) -> None:
    """Put a checkpoint that one process wrote without a plan (`model`, `optimizer`, and the `names` of its
    parameters) onto the ranks: each takes the share that it holds. Raises CheckpointError."""
    if "names" not in kept:
        raise CheckpointError(
            "the checkpoint was written by one process of an older leptond and does not name its "
            "parameters: go on with one process until it has saved, then with the plan"
        )
    options = StateDictOptions(full_state_dict=True)
    mine = model.state_dict().keys()  # a stage of a pipeline holds some of them
    whole = {name: value for name, value in kept["model"].items() if name in mine}
    numbers: dict[str, int] = {}
    groups: dict[str, dict[str, Any]] = {}
    for group, names in zip(kept["optimizer"]["param_groups"], kept["names"], strict=True):
        numbers |= dict(zip(names, group["params"], strict=True))
        groups |= dict.fromkeys(names, group)
    wanted = names_of(model, optimizer)
    missing = [name for names in wanted for name in names if name not in numbers] + sorted(
        mine - whole.keys()
    )
    if missing:
        raise CheckpointError(f"the checkpoint is of another model: it has no {missing[0]}")
    set_model_state_dict(model, whole, options=options)
    state = kept["optimizer"]["state"]
    if not state:
        optimizer.state.clear()
        for group, names in zip(optimizer.param_groups, wanted, strict=True):
            group.update({key: value for key, value in groups[names[0]].items() if key != "params"})
        return
    spread_out = {
        "state": {name: state[numbers[name]] for names in wanted for name in names if numbers[name] in state},
        "param_groups": [{**groups[names[0]], "params": names} for names in wanted],
    }
    set_optimizer_state_dict(model, optimizer, spread_out, options=options)
