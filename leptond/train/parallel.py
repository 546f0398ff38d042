"""Parallel plans: one declaration, ``Plan(dp=2, tp=2)``, over torch's own parts: DeviceMesh, DDP, FSDP2
(`fully_shard`), tensor parallelism and pipelining. gloo between CPU processes, NCCL between GPUs.

    with Parallel.start(Plan(dp=2, tp=2)) as parallel:      # one process a rank, as torchrun starts them
        model = parallel.wrap(Gpt(config), loss=next_token_loss, tp_plan=TP_PLAN)
        optimizer = torch.optim.AdamW(parallel.parameters(), lr=3e-4)
        for step in range(steps):
            rows, following = parallel.my_share(batch_of(step))
            loss = parallel.forward_backward(rows, following)
            parallel.clip_gradients(1.0)
            optimizer.step()

Whatever the plan, the loss curve is that of one process on the whole batch, within rounding: that is what
the tests hold it to.
"""

from __future__ import annotations

import contextlib
import fnmatch
import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import torch
from torch import Tensor, distributed, nn

from leptond.train.costs import Precision

Loss = Callable[[Tensor, Tensor], Tensor]

DIMENSIONS = ("pp", "dp", "fsdp", "tp")
"""From the outermost: neighbours in the last dimension are neighbours in rank, where links are fastest."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The number of ranks of each kind of parallelism; their product is the number of processes.

    `dp` copies of the model on different data; `fsdp`: the same, but each rank keeps only its share of the
    weights, gradients and optimizer state; `tp`: each layer split over ranks; `pp`: the layers split into
    stages, fed with `microbatches` (0: twice the stages) parts of the batch.
    """

    dp: int = 1
    fsdp: int = 1
    tp: int = 1
    pp: int = 1
    microbatches: int = 0

    def __post_init__(self) -> None:
        for name in DIMENSIONS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: every degree is at least 1")
        if self.microbatches < 0:
            raise ValueError("microbatches cannot be negative")

    @property
    def world(self) -> int:
        """The number of processes."""
        return prod(getattr(self, name) for name in DIMENSIONS)

    @property
    def parts_of_batch(self) -> int:
        """Into how many parts a pipeline cuts the share of one rank."""
        return self.microbatches or 2 * self.pp

    @classmethod
    def parse(cls, text: str) -> Plan:
        """The plan in words, as ``dp=2,tp=2``. Raises ValueError.

        >>> Plan.parse("dp=2, tp=2").world
        4
        """
        values: dict[str, int] = {}
        for word in filter(None, (part.strip() for part in text.replace("x", ",").split(","))):
            name, mark, number = (part.strip() for part in word.partition("="))
            if name not in (*DIMENSIONS, "microbatches") or not mark or not number.isdecimal():
                raise ValueError(f"{word!r} is not one of dp=N, fsdp=N, tp=N, pp=N, microbatches=N")
            values[name] = int(number)
        return cls(**values)

    def __str__(self) -> str:
        words = [f"{name}={getattr(self, name)}" for name in DIMENSIONS if getattr(self, name) > 1]
        return ", ".join(words) or "one process"


class Parallel:
    """A plan at work on this rank. Make it with :meth:`start`."""

    def __init__(self, plan: Plan, device: torch.device) -> None:
        from torch.distributed.device_mesh import init_device_mesh

        self.plan = plan
        self.device = device
        self.rank = distributed.get_rank() if distributed.is_initialized() else 0
        self.mesh: Any = None
        if plan.world > 1:
            sizes = tuple(getattr(plan, name) for name in DIMENSIONS)
            self.mesh = init_device_mesh(device.type, sizes, mesh_dim_names=DIMENSIONS)
        self.model: nn.Module = nn.Module()
        self.precision: Precision | None = None
        self._loss: Loss | None = None
        self._pipeline: Any = None
        self._ddp: nn.Module | None = None
        self.before_the_end: list[Callable[[], None]] = []

    # -- life --------------------------------------------------------------------------------------

    @classmethod
    @contextlib.contextmanager
    def start(cls, plan: Plan) -> Iterator[Self]:
        """Join the other ranks (as RANK, WORLD_SIZE and MASTER_* say) and leave them at the end of the
        block, after all in `before_the_end` was called; where the process group is there already, it is used
        and stays. Raises ValueError when the plan does not make as many ranks as there are."""
        world = int(os.environ.get("WORLD_SIZE") or 1)
        if plan.world != world:
            raise ValueError(
                f"the plan ({plan}) is for {plan.world} processes, and there are {world}; "
                f"start it with torchrun --nproc-per-node {plan.world}"
            )
        device = torch.device("cpu")
        if torch.cuda.is_available():
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK") or 0))
            torch.cuda.set_device(device)
        ours = world > 1 and not distributed.is_initialized()
        if ours:
            on_gpu = device.type == "cuda"
            distributed.init_process_group("nccl" if on_gpu else "gloo", device_id=device if on_gpu else None)
        parallel = cls(plan, device)
        try:
            yield parallel
        finally:
            for call in parallel.before_the_end:
                call()  # a thread that still talks to the others
            if ours:
                # what holds on to the group goes first: its threads must have ended before the interpreter
                parallel.model, parallel._pipeline, parallel._ddp = nn.Module(), None, None
                gc.collect()
                distributed.destroy_process_group()

    # -- data --------------------------------------------------------------------------------------

    @property
    def data_ranks(self) -> int:
        """The number of different shares of a batch."""
        return self.plan.dp * self.plan.fsdp

    @property
    def data_rank(self) -> int:
        """Which of the shares is this rank's. Ranks of one tensor or pipeline group have the same."""
        if self.mesh is None:
            return 0
        return int(self.mesh.get_local_rank("dp") * self.plan.fsdp + self.mesh.get_local_rank("fsdp"))

    def my_share(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """This rank's rows of a batch that every rank has whole. Raises ValueError when it does not go
        evenly: the mean over ranks would not be that of the batch."""
        rows = len(batch[0])
        if rows % self.data_ranks:
            raise ValueError(f"{rows} rows do not go evenly onto {self.data_ranks} ranks")
        size = rows // self.data_ranks
        begin = self.data_rank * size
        return tuple(part[begin : begin + size].to(self.device) for part in batch)

    # -- the model ---------------------------------------------------------------------------------

    def wrap(
        self,
        model: nn.Module,
        *,
        loss: Loss,
        tp_plan: Mapping[str, str] | None = None,
        precision: Precision | None = None,
    ) -> nn.Module:
        """Put the model onto the ranks. Every rank brings the same weights (the same seed).

        `tp_plan` says how its layers split (``{"*.up": "colwise", "*.down": "rowwise"}``), `loss` goes from
        outputs and targets to the mean over rows. A pipeline cuts between the modules of ``model.parts()``.
        `precision` is that of a step. What comes back is the part that this rank holds. Raises ValueError.
        """
        plan = self.plan
        _check_precision(precision, plan)
        self._loss, self.precision = loss, precision
        model = model.to(self.device)
        if plan.pp > 1:
            model = _stage(model, self.mesh.get_local_rank("pp"), plan.pp)
        if plan.tp > 1:
            _split_layers(model, self.mesh["tp"], tp_plan)
        if plan.fsdp > 1 or (plan.dp > 1 and plan.tp * plan.pp > 1):
            # with one rank in its second dimension this is plain replication, which DDP cannot do for
            # layers that are split themselves
            _shard(model, self.mesh["dp", "fsdp"] if plan.dp > 1 else self.mesh["fsdp"])
        elif plan.dp > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            self._ddp = nn.parallel.DistributedDataParallel(
                model, device_ids=ids, process_group=self.mesh.get_group("dp")
            )
        self.model = model
        if plan.pp > 1:
            self._pipeline = self._make_pipeline(model)
        return model

    def _make_pipeline(self, module: nn.Module) -> Any:
        from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

        stage = PipelineStage(
            module,
            self.mesh.get_local_rank("pp"),
            self.plan.pp,
            self.device,
            group=self.mesh.get_group("pp"),
        )
        return ScheduleGPipe(stage, n_microbatches=self.plan.parts_of_batch, loss_fn=self._loss)

    def parameters(self) -> list[dict[str, Any]]:
        """The parameters of this rank's optimizer, in groups: one for each way in which parameters lie on
        the ranks, because an optimizer cannot update them in one call."""
        groups: dict[Any, list[nn.Parameter]] = {}
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                groups.setdefault(getattr(parameter, "device_mesh", None), []).append(parameter)
        return [{"params": group} for group in groups.values()]

    # -- a step ------------------------------------------------------------------------------------

    def forward_backward(self, rows: Tensor, following: Tensor) -> Tensor:
        """Gradients of the mean loss over all ranks' rows, and that loss, the same on every rank. Call it
        with :meth:`my_share`."""
        assert self._loss is not None, "wrap a model first"
        precision = self.precision if self.precision is not None else Precision("fp32")
        if self._pipeline is not None:
            with precision.forward():
                loss = self._run_pipeline(rows, following)
        else:
            module = self._ddp if self._ddp is not None else self.model
            with precision.forward():
                loss = self._loss(module(rows), following)
            precision.backward(loss)
        return self._mean(loss.detach())

    def _run_pipeline(self, rows: Tensor, following: Tensor) -> Tensor:
        parts = self.plan.parts_of_batch
        if len(rows) % parts:
            raise ValueError(f"{len(rows)} rows do not go evenly into {parts} microbatches")
        stage, last = self.mesh.get_local_rank("pp"), self.plan.pp - 1
        losses: list[Tensor] = []
        inputs = (rows,) if stage == 0 else ()
        if stage == last:
            self._pipeline.step(*inputs, target=following, losses=losses)
        else:
            self._pipeline.step(*inputs)
        loss = torch.stack(losses).mean() if losses else torch.zeros((), device=self.device)
        loss = loss.detach().double()
        group = self.mesh.get_group("pp")
        distributed.broadcast(loss, group=group, src=distributed.get_global_rank(group, last))
        return loss

    def _mean(self, loss: Tensor) -> Tensor:
        """Over the ranks that saw different rows."""
        loss = loss.double()
        for name in ("dp", "fsdp"):
            if getattr(self.plan, name) > 1:
                distributed.all_reduce(loss, group=self.mesh.get_group(name))
        return loss / self.data_ranks

    def clip_gradients(self, most: float) -> float:
        """Scale the gradients down to a norm of at most `most`, over everything that all ranks hold; the
        norm before."""
        squares = torch.zeros((), device=self.device, dtype=torch.float64)
        groups = _by_layout(p.grad for p in self.model.parameters() if p.grad is not None)
        for (mesh, placements), group in groups.items():
            mine = [part.to_local() if mesh is not None else part for part in group]
            norm = torch.nn.utils.get_total_norm(mine).double() ** 2
            for dimension, placement in enumerate(placements):
                if not placement.is_replicate():  # under fsdp and tp the kind of shard has another name
                    distributed.all_reduce(norm, group=mesh.get_group(dimension))
            squares += norm
        if self.plan.pp > 1:
            distributed.all_reduce(squares, group=self.mesh.get_group("pp"))
        total = float(squares.sqrt())
        if total > most:
            for group in groups.values():
                torch._foreach_mul_(group, most / (total + 1e-6))
        return total


def _by_layout(tensors: Iterable[Any]) -> dict[tuple[Any, tuple[Any, ...]], list[Any]]:
    """Tensors that lie on the ranks in the same way, together: by device mesh and placements (None and
    nothing for one that is plain)."""
    groups: dict[tuple[Any, tuple[Any, ...]], list[Any]] = {}
    for tensor in tensors:
        layout = getattr(tensor, "device_mesh", None), tuple(getattr(tensor, "placements", ()))
        groups.setdefault(layout, []).append(tensor)
    return groups


def _check_precision(precision: Precision | None, plan: Plan) -> None:
    """Raises ValueError for what torch cannot do together."""
    if precision is None or precision.name != "fp16":
        return
    if plan.pp > 1:
        raise ValueError("fp16 does not go with pp, whose stages scale no loss; take bf16, or fsdp")
    if plan.tp > 1:
        raise ValueError(
            "fp16 does not go with tp: torch cannot look through gradients of which some are split and some "
            "are not; take bf16, or fsdp"
        )


def _stage(model: nn.Module, number: int, stages: int) -> nn.Module:
    """The consecutive parts of a model that stage `number` runs, under the names that they have in the whole
    model: a checkpoint does not depend on how it was cut."""
    if not hasattr(model, "parts"):
        raise ValueError(f"{type(model).__name__} has no parts() for a pipeline to cut between")
    parts: nn.ModuleList = model.parts()
    if len(parts) < stages:
        raise ValueError(f"{len(parts)} parts cannot make {stages} stages")
    cuts = [round(len(parts) * n / stages) for n in range(stages + 1)]
    for position in range(len(parts)):
        if not cuts[number] <= position < cuts[number + 1]:
            parts[position] = nn.Identity()
    return model


def _split_layers(model: nn.Module, mesh: Any, plan: Mapping[str, str] | None) -> None:
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    if not plan:
        raise ValueError("tensor parallelism needs a tp_plan that says how the layers split")
    kinds = {"colwise": ColwiseParallel, "rowwise": RowwiseParallel}
    wanted = {}
    for name, module in model.named_modules():
        kind = next((k for pattern, k in plan.items() if fnmatch.fnmatchcase(name, pattern)), None)
        if kind is not None:
            if kind not in kinds:
                raise ValueError(f"{name}: {kind!r} is not one of {', '.join(kinds)}")
            if isinstance(module, nn.Linear) and not _divides(module, kind, mesh.size()):
                raise ValueError(f"{name} does not split evenly over {mesh.size()} ranks")
            wanted[name] = kinds[kind]()
    if not wanted:
        raise ValueError("the tp_plan names no layer of this model")
    parallelize_module(model, mesh, wanted)


def _divides(layer: nn.Linear, kind: str, ranks: int) -> bool:
    size = layer.out_features if kind == "colwise" else layer.in_features
    return size % ranks == 0


def _shard(model: nn.Module, mesh: Any) -> None:
    """FSDP2, part by part, so that only one part is whole at a time."""
    from torch.distributed.fsdp import fully_shard

    for part in model.parts() if hasattr(model, "parts") else model.children():
        if any(True for _ in part.parameters()):
            fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
