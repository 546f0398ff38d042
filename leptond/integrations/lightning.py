"""Lightning in a leptond job: two lines.

    from leptond.integrations.lightning import LeptondCallback, resume_from

    trainer = Trainer(..., callbacks=[LeptondCallback(every=200)])
    trainer.fit(model, loader, ckpt_path=resume_from(job.checkpoint_dir))

It reports step, metrics and rate; saves ``leptond.ckpt`` into the job's checkpoint directory, with the one
before it as ``leptond.previous.ckpt``; and on SIGTERM finishes the step, saves, and leaves to be run again. A
checkpoint that is not whole, or that an attempt failed to load, is passed over for the one before it.

What a resume goes on with: model, optimizers and schedules (Lightning's own), the random states of a
training in one process, and the place in the data of a loader that has ``state_dict()``, such as
:class:`leptond.train.costs.Loader`: then it ends with the same bits as one that was never stopped. torch's
own DataLoader has none: after a resume in the middle of an epoch it begins the epoch's data again.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from leptond import job
from leptond.base import durable
from leptond.integrations import whole
from leptond.train.checkpoint import random_states, restore_random_states

FILE = "leptond.ckpt"
PREVIOUS = "leptond.previous.ckpt"

_resumed: list[Path] = []
"""The checkpoint that this process resumes from, until its first step."""


class LeptondCallback(Callback):
    """Connects a Trainer with leptond; outside a job it does nothing. `every`: optimizer steps between
    checkpoints; `margin_s`: leave that long before the time limit."""

    def __init__(self, every: int = 200, margin_s: float = 0.0) -> None:
        self.every = every
        self.margin_s = margin_s
        self._saved_at = -1
        self._random: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the random states, if one process trains: with several only the first writes the checkpoint."""
        if trainer.world_size == 1:
            checkpoint["leptond_random"] = random_states()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Keep the random states until the first step: what comes before it draws random numbers too."""
        self._random = checkpoint.get("leptond_random")

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Restore the random states of the checkpoint."""
        if self._random is not None and trainer.world_size == 1:
            restore_random_states(self._random)
        self._random = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to catch SIGTERM."""
        job.should_stop(self.margin_s)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Report, save when it is time, and leave when leptond asks for it. All ranks agree on that."""
        while _resumed:
            whole.loaded(_resumed.pop())
        if not job.active:
            return
        step = trainer.global_step
        total = trainer.estimated_stepping_batches
        metrics = {
            name: value
            for name, value in trainer.callback_metrics.items()
            if name.isidentifier() and name not in ("step", "total", "lr", "loss")
        }
        rates = [group["lr"] for one in trainer.optimizers for group in one.param_groups]
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        job.report(
            step=step,
            total=int(total) if total != float("inf") else None,
            loss=loss,
            lr=rates[0] if rates else None,
            **metrics,
        )
        stop = trainer.strategy.reduce_boolean_decision(job.should_stop(self.margin_s), all=False)
        if (stop or step % self.every == 0) and step > 0:
            self._save(trainer, step)
        if stop:
            job.leave()

    def _save(self, trainer: Any, step: int) -> None:
        directory: Path | None = job.checkpoint_dir
        if directory is None or step == self._saved_at:
            return
        self._saved_at = step
        temporary = directory / f".{FILE}.tmp"
        trainer.save_checkpoint(temporary)  # every rank takes part
        if trainer.is_global_zero:
            _put_in_place(directory, temporary)
            job.checkpointed(step)


def _put_in_place(directory: Path, temporary: Path) -> None:
    """Make the new checkpoint the newest, durably, and keep the one before it. Strategies that shard write a
    directory, the others a file. Raises OSError."""
    if temporary.is_dir():
        whole.note_sizes(temporary)
    else:
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
    newest, previous = directory / FILE, directory / PREVIOUS
    if newest.exists():
        if previous.is_dir():
            shutil.rmtree(previous)
        newest.replace(previous)
    temporary.replace(newest)
    durable.sync_directory(str(directory))


def resume_from(directory: Path | str | None) -> str | None:
    """The newest checkpoint in a job's directory that is whole; None when there is none. A line on standard
    error names one that is passed over, and why."""
    if directory is None:
        return None
    found = [path for path in (Path(directory) / FILE, Path(directory) / PREVIOUS) if path.exists()]
    chosen = whole.newest(found, attempt=job.attempt if job.active else None)
    _resumed[:] = [chosen] if chosen is not None else []
    return str(chosen) if chosen is not None else None
