"""Optimizers and learning-rate schedules by name, over torch's own, and a rate that can be changed.

    optimizer = make_optimizer("adamw", model.parameters(), lr=3e-4, weight_decay=0.1)
    schedule = make_schedule("cosine", optimizer, total=10_000, warmup=200)
    ...
    schedule.step(loss)             # after every optimizer step; the loss counts for "plateau" alone
    schedule.scale(0.5)             # half the rate from here on, the schedule's shape unchanged

The state of both goes into a checkpoint with ``state_dict()`` and comes back with ``load_state_dict()``; the
shape itself (name, total, warmup, ...) is the script's and is given again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, optim
from torch.optim import lr_scheduler

OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "adam": ("Adam", {}),
    "adamw": ("AdamW", {}),
    "adagrad": ("Adagrad", {}),
    "sgd": ("SGD", {"momentum": 0.9}),
    "adafactor": ("Adafactor", {}),  # torch has it from 2.5
}
"""torch's class by name, and what it gets for what is not said."""

SCHEDULES = ("constant", "step", "exponential", "cosine", "wsd", "plateau", "one-cycle")


def make_optimizer(name: str, parameters: Iterable[Any], *, lr: float, **options: Any) -> optim.Optimizer:
    """The optimizer of that name; `options` are those of torch's class. Raises ValueError."""
    if name not in OPTIMIZERS:
        raise ValueError(f"there is no optimizer {name!r}; there are {', '.join(OPTIMIZERS)}")
    kind, defaults = OPTIMIZERS[name]
    if not hasattr(optim, kind):
        raise ValueError(f"this torch has no {kind}")
    made: optim.Optimizer = getattr(optim, kind)(parameters, lr=lr, **{**defaults, **options})
    return made


class Warmup:
    """Factor on the rate: (step + 1) / warmup on the way up, then what comes after it."""

    def __init__(self, warmup: int, then: Callable[[int], float]) -> None:
        self.warmup = warmup
        self.then = then

    def __call__(self, step: int) -> float:
        return (step + 1) / self.warmup if step < self.warmup else self.then(step - self.warmup)


def cosine(step: int, *, length: int, floor: float) -> float:
    """From 1 to `floor` over `length` steps along half a cosine (Loshchilov & Hutter, arXiv 1608.03983)."""
    done = min(1.0, step / max(1, length))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def decay_at_the_end(step: int, *, stable: int, decay: int, floor: float) -> float:
    """1 for `stable` steps, then down to `floor` as 1 - sqrt over `decay` steps (warm-up-stable-decay:
    MiniCPM, arXiv 2404.06395; the square root: Hägele et al., arXiv 2405.18392)."""
    if step < stable:
        return 1.0
    done = min(1.0, (step - stable) / max(1, decay))
    return floor + (1 - floor) * (1 - math.sqrt(done))


class Schedule:
    """One of torch's schedulers behind one face: every one is stepped alike and can be scaled."""

    def __init__(self, name: str, optimizer: optim.Optimizer, scheduler: Any) -> None:
        self.name = name
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scaled = 1.0

    def step(self, loss: float | Tensor | None = None) -> None:
        """Move on by a step. Raises ValueError when the schedule needs the loss and gets none."""
        if self.name != "plateau":
            self.scheduler.step()
        elif loss is None:
            raise ValueError("the schedule plateau goes by the loss: schedule.step(loss)")
        else:
            self.scheduler.step(float(loss))

    @property
    def rate(self) -> float:
        """The rate of the next step, as the optimizer has it (of its first group)."""
        return float(self.optimizer.param_groups[0]["lr"])

    def scale(self, factor: float) -> None:
        """Multiply the rate from here on: this step's, and all that the schedule will make of it.
        Raises ValueError for a factor that is not above 0."""
        if not 0 < factor < math.inf:
            raise ValueError(f"the rate cannot be multiplied by {factor}")
        for group in self.optimizer.param_groups:
            for key in ("lr", "initial_lr", "max_lr", "min_lr"):
                if key in group:
                    group[key] *= factor
        for key in ("base_lrs", "min_lrs", "_last_lr"):
            if hasattr(self.scheduler, key):
                setattr(self.scheduler, key, [value * factor for value in getattr(self.scheduler, key)])
        self.scaled *= factor

    def set_rate(self, rate: float) -> None:
        """The rate of the next step; what follows goes on from there in proportion."""
        if not 0 < rate < math.inf:
            raise ValueError(f"{rate} is not a learning rate")
        if self.rate <= 0:
            raise ValueError("a schedule that has come down to 0 cannot be scaled up again")
        self.scale(rate / self.rate)

    def state_dict(self) -> dict[str, Any]:
        """The state that a checkpoint has to hold."""
        state = {key: value for key, value in self.scheduler.state_dict().items() if _plain(value)}
        return {"name": self.name, "scaled": self.scaled, "scheduler": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Load the optimizer's state as well: the rates are its. Raises ValueError."""
        if state["name"] != self.name:
            raise ValueError(f"the checkpoint was made with the schedule {state['name']}, not {self.name}")
        groups = len(self.optimizer.param_groups)
        inner = {}
        for key, value in state["scheduler"].items():
            inner[key] = _fitted(value, groups) if isinstance(value, list) else value
        if hasattr(self.scheduler, "lr_lambdas"):
            inner["lr_lambdas"] = [None] * groups  # the shape is the script's
        self.scaled = state["scaled"]
        self.scheduler.load_state_dict(inner)


def _fitted(values: list[Any], groups: int) -> list[Any]:
    """One value for each parameter group; a parallel plan may have made more or fewer groups of the same
    parameters. Raises ValueError."""
    if len(values) == groups:
        return list(values)
    if any(value != values[0] for value in values):
        raise ValueError(f"the rates of {len(values)} parameter groups do not fit onto {groups}")
    return [values[0]] * groups


def _plain(value: Any) -> bool:
    """Return True if a value is plain data: a checkpoint holds no functions and no objects."""
    if isinstance(value, list | tuple):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def make_schedule(
    name: str,
    optimizer: optim.Optimizer,
    *,
    total: int,
    warmup: int = 0,
    floor: float = 0.0,
    every: int = 0,
    gamma: float = 0.1,
    decay: int = 0,
    patience: int = 10,
    peak: float = 25.0,
) -> Schedule:
    """The schedule of that name over `total` optimizer steps; `optimizer` has the highest rate (lr).

    `constant`; `step`: times `gamma` every `every` steps; `exponential`: times `gamma` every step; `cosine`:
    `warmup` steps up, then half a cosine down to `floor` times the rate; `wsd`: up, stable, and the last
    `decay` steps down to `floor`; `plateau`: times `gamma` when the loss has not got better for `patience`
    steps; `one-cycle`: up from lr / `peak` in the first `warmup` steps (0: three tenths), then down to almost
    nothing. Raises ValueError.
    """
    if name not in SCHEDULES:
        raise ValueError(f"there is no schedule {name!r}; there are {', '.join(SCHEDULES)}")
    if total < 1 or not 0 <= warmup <= total or not 0 <= floor <= 1:
        raise ValueError(f"total={total}, warmup={warmup}, floor={floor} make no schedule")
    if warmup and name in ("step", "exponential", "plateau"):
        raise ValueError(f"the schedule {name} has no warm-up")
    return Schedule(name, optimizer, _scheduler(
        name, optimizer, total, warmup, floor, every, gamma, decay, patience, peak
    ))  # fmt: skip


def _scheduler(
    name: str,
    optimizer: optim.Optimizer,
    total: int,
    warmup: int,
    floor: float,
    every: int,
    gamma: float,
    decay: int,
    patience: int,
    peak: float,
) -> Any:
    match name:
        case "step":
            if every < 1:
                raise ValueError("the schedule step needs every=N, in steps")
            return lr_scheduler.StepLR(optimizer, every, gamma)
        case "exponential":
            return lr_scheduler.ExponentialLR(optimizer, gamma)
        case "plateau":
            return lr_scheduler.ReduceLROnPlateau(optimizer, factor=gamma, patience=patience)
        case "one-cycle":
            rates = [group["lr"] for group in optimizer.param_groups]
            share = warmup / total if warmup else 0.3
            # momentum is the optimizer's own business here
            return lr_scheduler.OneCycleLR(
                optimizer, rates, total_steps=total, pct_start=share, div_factor=peak, cycle_momentum=False
            )
        case "cosine":
            length = total - warmup
            after: Callable[[int], float] = lambda step: cosine(step, length=length, floor=floor)  # noqa: E731
        case "wsd":
            last = decay or total // 5
            stable = max(0, total - warmup - last)
            after = lambda step: decay_at_the_end(step, stable=stable, decay=last, floor=floor)  # noqa: E731
        case _:
            after = lambda step: 1.0  # noqa: E731
    return lr_scheduler.LambdaLR(optimizer, Warmup(warmup, after) if warmup else after)
