"""The loop around a training step: it resumes, reports, follows ``leptonctl tune``, goes back when the loss
goes wrong, saves, and leaves when it is told to. The model, the data and the loss stay the script's.

    training = Training(model, optimizer, schedule, total=10_000, checkpoints=Checkpoints(job.checkpoint_dir))
    for step in training:                        # from where an earlier attempt saved
        rows, following = batch_of(step)
        training.update(loss_of(model(rows), following))

Under several ranks (`parallel`) every decision is made once, from one small sum over all ranks in each step:
all of them stop, save, go back, and turn a knob in the same step.
"""

from __future__ import annotations

import logging
import math
import statistics
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn, optim

from leptond import job
from leptond.train import sharded
from leptond.train.checkpoint import Checkpoints, random_states, restore_random_states
from leptond.train.costs import Precision
from leptond.train.parallel import Parallel
from leptond.train.schedule import Schedule

log = logging.getLogger("leptond.train")

Asked = tuple[int, dict[str, float], dict[str, int]]
"""The values asked for with ``leptonctl tune``: a version, the values, and the version of each."""


class Stateful(Protocol):
    """Something whose state belongs into the checkpoint, such as a data loader."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers, texts, and lists and dicts of them."""

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from there."""


_LEAST = 20
"""The losses that have to be known before one can be unusual."""
_PATIENCE = 5
"""The steps for which a loss has to be high before it is wrong, unless it is above all that was usual."""
_FAR_BELOW = 0.1
"""A loss under this part of its highest median is not wrong, however it jumps."""


@dataclass(frozen=True, kw_only=True)
class Guard:
    """The rule for a wrong loss, which sends the training back to its last good checkpoint with `reduce`
    times the rate; after `most` times it ends as diverged. Wrong is a loss that is not finite, one over
    `spike` times all that is usual (the median of the last 50, and the highest such median so far), and one
    that has been over `spike` times the median for five steps, higher than any before. A single batch may
    be unlucky, above all where the loss is near zero: that is not wrong. `spike` 0: only what is not
    finite."""

    spike: float = 4.0
    reduce: float = 0.5
    most: int = 3

    def fault(self, loss: float, recent: Sequence[float], level: float = 0.0) -> str | None:
        """The fault of a loss; None when it has none. `recent`: the losses before it, the newest last;
        `level`: the highest of their medians so far."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not self.spike or len(recent) < _LEAST:
            return None
        usual = statistics.median(recent)
        if loss > self.spike * max(usual, level) > 0:
            return f"the loss is {loss:.4g}, and was {usual:.4g}"
        if len(recent) < _LEAST + _PATIENCE:
            return None
        before, last = list(recent)[: 1 - _PATIENCE], [*list(recent)[1 - _PATIENCE :], loss]
        usual = statistics.median(before)
        if min(last) > max(self.spike * usual, _FAR_BELOW * level, *before) and usual > 0:
            return f"the loss is {loss:.4g}, over {min(last):.4g} for {_PATIENCE} steps, and was {usual:.4g}"
        return None


def _may_be_wrong(guard: Guard, loss: float, recent: Sequence[float]) -> bool:
    """Return True if a loss may be the first of several wrong ones: its step is no good checkpoint then."""
    return bool(guard.spike) and len(recent) >= _LEAST and loss > guard.spike * statistics.median(recent) > 0


class Training:
    """A training of `total` optimizer steps.

    `every` steps it saves, in the background. `lr_bounds` are those of the knob ``lr`` (None: from a
    millionth of to ten times the first rate). `clip`: largest norm of the gradients (0: not clipped).
    `precision`: of the backward pass and the step (with `parallel`: the one that it has). `state`: more
    things that belong into the checkpoint. `margin_s`: leave that long before the time limit.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        schedule: Schedule,
        *,
        total: int,
        checkpoints: Checkpoints,
        every: int = 100,
        parallel: Parallel | None = None,
        guard: Guard | None = None,
        clip: float = 0.0,
        precision: Precision | None = None,
        lr_bounds: tuple[float, float] | None = None,
        state: Mapping[str, Stateful] | None = None,
        margin_s: float = 0.0,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.total = total
        self.checkpoints = checkpoints
        self.every = every
        self.parallel = parallel
        self.guard = guard if guard is not None else Guard()
        self.clip = clip
        self.precision = precision if parallel is None else parallel.precision
        self.more = dict(state or {})
        self.margin_s = margin_s
        self.world = distributed.get_world_size() if distributed.is_initialized() else 1
        self.rank = distributed.get_rank() if distributed.is_initialized() else 0
        self.step = 0
        self.loss = math.nan
        self.generation = 0
        self.skipped = 0
        self._recent: deque[float] = deque(maxlen=50)
        self._level = 0.0
        self._due = False
        self._diverged_at = 0
        self._rolled_back_to: int | None = None
        self._saved_at = -1
        self._writer = sharded.Writer(checkpoints) if self.world > 1 else None
        if parallel is not None:
            parallel.before_the_end.append(checkpoints.join)
        self._channel = job.channel() if self.rank == 0 else None
        base = schedule.rate
        groups = optimizer.param_groups
        highest = max(group.get("max_lr", group.get("initial_lr", base)) for group in groups)
        low, high = lr_bounds if lr_bounds is not None else (highest * 1e-6, highest * 10)
        self._knobs: dict[str, dict[str, float]] = {"lr": {"value": base, "low": low, "high": high}}
        self._tuned: dict[str, int] = {}
        self._version = 0
        self._last_asked: Asked = (0, {}, {})
        job.should_stop()  # from here on SIGTERM is heard

    # -- the loop ----------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[int]:
        """The numbers of the steps still to do. Leaves the process (SystemExit) when it is told to stop or
        when the training has diverged."""
        if not self.resume() and self.checkpoints.directory is not None:
            self.save()  # there is always something to go back to
        self._declare_knobs()
        _, _, asked = self._agree(math.nan)
        if asked is not None:
            self._turn(asked)  # what was asked for while nothing ran counts from the first step
        while self.step < self.total:
            before = self.step
            yield self.step
            if self.step == before and self._diverged_at != before:
                raise RuntimeError(f"step {before} ended without training.update(loss)")
        if self._saved_at != self.step:
            self.save()
        self.checkpoints.wait()

    def knob(self, name: str, value: float, *, low: float, high: float) -> float:
        """A number that ``leptonctl tune`` may change within [low, high]: `value` until then. The
        same on every rank in every step. Raises ValueError."""
        if name == "lr" or not -math.inf < low <= value <= high < math.inf:
            raise ValueError(f"the knob {name}={value} within [{low}, {high}] cannot be declared")
        known = self._knobs.get(name)
        if known is None or (known["low"], known["high"]) != (low, high):
            self._knobs[name] = {"value": known["value"] if known else value, "low": low, "high": high}
            self._turn(self._last_asked)  # it may have been asked for before it was declared
        return self._knobs[name]["value"]

    def update(self, loss: Tensor | float) -> None:
        """One optimizer step. A loss with a graph is gone back through first; one without has had its
        gradients made already (:meth:`Parallel.forward_backward`). A step that fp16 leaves out counts as one
        (`skipped`), and the schedule waits for it."""
        if isinstance(loss, Tensor):
            if loss.requires_grad and self.precision is not None:
                self.precision.backward(loss)
            elif loss.requires_grad:
                loss.backward()
            loss = loss.item()
        value, stop, asked = self._agree(loss)
        fault = self.guard.fault(value, self._recent, self._level)
        if fault is not None:
            self.optimizer.zero_grad(set_to_none=True)
            self._go_back(fault, value)
            return
        rate = self.schedule.rate
        if self._optimize():
            self.schedule.step(value)
        else:
            self.skipped += 1
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.loss = value
        suspect = _may_be_wrong(self.guard, value, self._recent)
        self._recent.append(value)
        if len(self._recent) >= _LEAST:
            self._level = max(self._level, statistics.median(self._recent))
        if self.step > self._diverged_at:
            self._rolled_back_to = None
        if asked is not None:
            self._turn(asked)
        if self.rank == 0:
            job.report(step=self.step, total=self.total, loss=value, lr=rate, skipped=self.skipped or None)
        if stop:
            self._leave()
        self._due = self._due or self.step % self.every == 0
        if self._due and not suspect and self.step < self.total:
            self.save()

    def _optimize(self) -> bool:
        """Clip the gradients and take the optimizer's step; False where fp16 leaves it out."""
        scaled = self.precision is not None and self.precision.name == "fp16"
        if self.precision is not None and scaled:
            self.precision.unscale(self.optimizer)
        if self.clip:
            self._clip()
        if self.precision is not None and scaled:
            return self.precision.step(self.optimizer)
        self.optimizer.step()
        return True

    def _clip(self) -> None:
        if self.parallel is not None:
            self.parallel.clip_gradients(self.clip)
        else:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)

    # -- agreement ---------------------------------------------------------------------------------

    def _agree(self, loss: float) -> tuple[float, bool, Asked | None]:
        """The mean loss of all ranks, whether any of them was told to stop, and what was asked for since the
        last time."""
        asked = 0
        if self._channel is not None:
            self._channel.tuned()
            asked = self._channel.wanted_version
        stop = job.should_stop(self.margin_s)
        if self.world == 1:
            return loss, stop, self._asked() if asked > self._version else None
        device = self.parallel.device if self.parallel is not None else "cpu"
        sums = torch.tensor([loss, float(stop), float(asked)], dtype=torch.float64, device=device)
        distributed.all_reduce(sums)
        total, stops, version = sums.tolist()
        asked_for = [self._asked() if self.rank == 0 and version > self._version else None]
        if version > self._version:
            distributed.broadcast_object_list(asked_for, src=0)
        return total / self.world, stops > 0, asked_for[0]

    def _asked(self) -> Asked:
        assert self._channel is not None
        one = self._channel
        return one.wanted_version, dict(one.wanted), dict(one.wanted_versions)

    def _turn(self, asked: Asked) -> None:
        """Turn the knobs that were asked for since the last time, each once: a checkpoint that holds a turned
        rate is not turned again."""
        self._last_asked = asked
        self._version, values, versions = asked
        for name, value in values.items():
            knob, version = self._knobs.get(name), versions.get(name, 0)
            if knob is None or version <= self._tuned.get(name, 0):
                continue
            self._tuned[name] = version
            if not knob["low"] <= value <= knob["high"]:
                continue
            if name == "lr":
                self.schedule.set_rate(value)
            knob["value"] = value
        self._declare_knobs()

    def _declare_knobs(self) -> None:
        if self._channel is not None:
            self._channel.set(
                knobs={name: dict(one) for name, one in self._knobs.items()}, tuned=self._version
            )

    # -- going back --------------------------------------------------------------------------------

    def _go_back(self, fault: str, loss: float) -> None:
        """To the last good checkpoint, with a lower rate; one further back each time that the same stretch
        goes wrong again."""
        at = self.step
        if self.rank == 0:
            job.report(loss=loss)
        if self.generation >= self.guard.most:
            self._diverged(f"{fault} at step {at}, after going back {self.generation} times")
        generation = self.generation + 1
        if not self.resume(before=self._rolled_back_to):
            self._diverged(f"{fault} at step {at}, and there is no checkpoint to go back to")
        self.generation = generation
        self._rolled_back_to = self.step
        self._diverged_at = at
        self.schedule.scale(self.guard.reduce)
        if self.rank == 0:
            log.warning(
                "%s at step %d: going back to step %d with %g times the rate (%d of %d)",
                *(fault, at, self.step, self.guard.reduce, generation, self.guard.most),
            )
            job.report(step=self.step, rollbacks=generation)
        # at once, as a later generation: a crash must not bring the higher rate back
        self.save(background=False)

    def _diverged(self, why: str) -> None:
        self.checkpoints.wait()
        if self.rank == 0:
            log.error("%s", why)
        job.leave("diverged", why)

    def _leave(self) -> None:
        if self._saved_at != self.step:
            self.save(background=False)
        self.checkpoints.wait()
        if self.rank == 0:
            saved = f"saved at step {self.step}" if self.checkpoints.directory else "there is nowhere to save"
            log.warning("told to stop; %s", saved)
        job.leave()

    # -- checkpoints -------------------------------------------------------------------------------

    def _extra(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "generation": self.generation,
            "skipped": self.skipped,
            "precision": self.precision.state_dict() if self.precision is not None else {},
            "schedule": self.schedule.state_dict(),
            "recent": list(self._recent),
            "level": self._level,
            "knobs": {name: knob["value"] for name, knob in self._knobs.items()},
            "tuned": dict(self._tuned),
            "more": {name: one.state_dict() for name, one in self.more.items()},
        }

    def save(self, *, background: bool = True) -> None:
        """Save now; on several ranks in the same step on each. In the background a copy is taken, and the
        training goes on meanwhile."""
        loss = self.loss if math.isfinite(self.loss) else None
        self._saved_at, self._due = self.step, False
        if self._writer is not None:
            self._writer.save(
                self.step,
                self.model,
                self.optimizer,
                extra=self._extra(),
                mine=random_states(),
                loss=loss,
                generation=self.generation,
                background=background,
            )
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "names": sharded.names_of(self.model, self.optimizer),
            "random": random_states(),
            **self._extra(),
        }
        self.checkpoints.save(self.step, state, loss=loss, generation=self.generation, background=background)

    def resume(self, *, before: int | None = None) -> bool:
        """Go on from the newest whole checkpoint (of a step below `before`); whether there was one. What
        several ranks wrote, any number of ranks can go on from, one of them too."""
        found = sharded.newest(self.checkpoints, before)
        if found is None:
            return False
        mine: dict[str, Any] | None
        if (found.path / sharded.EXTRA).exists():
            extra, mine = sharded.load(found, self.model, self.optimizer)
        elif self._writer is not None:
            extra, mine = self.checkpoints.load(found), None
            sharded.spread(extra, self.model, self.optimizer)
        else:
            extra = self.checkpoints.load(found)
            self.model.load_state_dict(extra["model"])
            self.optimizer.load_state_dict(extra["optimizer"])
            mine = extra["random"]
        if mine is not None:
            restore_random_states(mine)
        self.step = self._saved_at = extra["step"]
        self._due = False
        self.generation = extra["generation"]
        self.skipped = extra.get("skipped", 0)
        if self.precision is not None:
            self.precision.load_state_dict(extra.get("precision", {}))
        self.schedule.load_state_dict(extra["schedule"])
        self._recent = deque(extra["recent"], maxlen=50)
        self._level = extra.get("level", max(self._recent, default=0.0))
        for name, value in extra["knobs"].items():
            self._knobs.setdefault(name, {"low": value, "high": value, "value": value})["value"] = value
        self._tuned = dict(extra["tuned"])
        for name, one in self.more.items():
            if name in extra["more"]:
                one.load_state_dict(extra["more"][name])
        if self.rank == 0:
            log.info("resumed from step %d", self.step)
        return True
