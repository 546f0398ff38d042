"""What each rank does in the tests of parallel plans."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from torch import distributed

from leptond.train.checkpoint import Checkpoints
from leptond.train.costs import Precision
from leptond.train.gpt import TP_PLAN, Gpt, GptConfig, next_token_loss
from leptond.train.loop import Guard, Training
from leptond.train.parallel import Parallel, Plan
from leptond.train.schedule import make_optimizer, make_schedule
from tests.train.forks import errors, forked
from tests.train.small import batch_of

CONFIG = GptConfig(context=16, width=16, heads=4, layers=2)
STEPS, SAVED = 12, 6


def train(
    plan: Plan,
    directory: str | None,
    on_step=lambda training: None,
    *,
    steps: int = STEPS,
    every: int = SAVED,
    guard: Guard = Guard(spike=0),  # noqa: B008 - cannot be changed
    loss_at=lambda step, loss: loss,
    precision: Precision | None = None,
) -> dict[str, float]:
    """Losses by step of the training of every test, under a plan; double precision, so that rounding is
    ten billion times smaller than any mistake. `loss_at` may make this rank's loss another one."""
    torch.manual_seed(1)
    model = Gpt(CONFIG) if precision is not None else Gpt(CONFIG).double()
    losses = {}
    with Parallel.start(plan) as parallel:
        model = parallel.wrap(model, loss=next_token_loss, tp_plan=TP_PLAN, precision=precision)
        optimizer = make_optimizer("adamw", parallel.parameters(), lr=1e-2)
        training = Training(
            model,
            optimizer,
            make_schedule("cosine", optimizer, total=steps, warmup=3),
            total=steps,
            checkpoints=Checkpoints(directory, keep=99),
            every=every,
            parallel=parallel,
            guard=guard,
            clip=0.5,
        )
        for step in training:
            on_step(training)
            rows, following = parallel.my_share(batch_of(step))
            training.update(loss_at(step, parallel.forward_backward(rows, following)))
            losses[str(step)] = training.loss
    return losses


def rates_of_all(training: Training) -> list[float]:
    """The rate in the optimizer of each rank."""
    found: list[float] = [0.0] * distributed.get_world_size()
    distributed.all_gather_object(found, training.optimizer.param_groups[-1]["lr"])
    return found


def work(one: dict) -> dict:
    """One piece of work: a curve, perhaps with checkpoints, perhaps tuned on the way."""
    rates = {}

    def on_step(training: Training) -> None:
        if "tune_at" in one:
            rates[str(training.step)] = rates_of_all(training)
            if training.step == one["tune_at"] and training.rank == 0:
                asked = {"version": 1, "values": {"lr": one["lr"]}, "versions": {"lr": 1}}
                target = Path(os.environ["LEPTOND_ATTEMPT_DIR"]) / "tune.json"
                target.with_suffix(".new").write_text(json.dumps(asked))
                target.with_suffix(".new").replace(target)

    length = {name: one[name] for name in ("steps", "every")}
    losses = train(Plan.parse(one["plan"]), one.get("directory"), on_step, **length)
    return {"losses": losses, "rates": rates}


def launch(ranks: int, pieces: list[dict], directory: Path) -> list[dict]:
    """What rank 0 of so many ranks found; every rank has to end well."""

    def one_rank(rank: int) -> list[dict]:
        os.environ.update(LEPTOND_ATTEMPT_ID="a" * 32, LEPTOND_ATTEMPT_DIR=str(directory))
        distributed.init_process_group("gloo")
        found = [work(one) for one in pieces]
        distributed.barrier()
        distributed.destroy_process_group()
        return found

    codes, found = forked(ranks, one_rank, directory)
    assert codes == [0] * ranks, errors(directory)
    return found[0]
