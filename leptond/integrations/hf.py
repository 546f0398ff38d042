"""The Hugging Face Trainer in a leptond job: two lines.

    from leptond.integrations.hf import LeptondCallback, resume_from

    trainer = Trainer(..., args=TrainingArguments(output_dir=str(job.checkpoint_dir or "out"), ...))
    trainer.add_callback(LeptondCallback())
    trainer.train(resume_from_checkpoint=resume_from(trainer.args.output_dir))

It reports step, loss and rate; makes each checkpoint durable and announces it; and on SIGTERM lets the
Trainer finish its step and save, then leaves to be run again. Several ranks agree on the step. A checkpoint
that is not whole, or that an attempt failed to load, is passed over for the one before it (keep two:
``save_total_limit=2``).

A resumed training ends with the same bits as one that was never stopped, also with dropout and shuffled data,
unless the data set itself draws from torch's random numbers (an augmentation in ``__getitem__``): the Trainer
reads a batch ahead, so that the draws of a resumed training are others. Draw from a generator of the row and
the epoch instead.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from leptond import job
from leptond.integrations import whole
from leptond.train.agreement import StopAgreement

_resumed: list[Path] = []
"""The checkpoint that this process resumes from, until its first step."""


class LeptondCallback(TrainerCallback):
    """Connects a Trainer with leptond; outside a job it does nothing. `margin_s`: stop that long before the
    time limit."""

    def __init__(self, margin_s: float = 0.0) -> None:
        self.margin_s = margin_s
        self._stopping = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Begin to catch SIGTERM."""
        job.should_stop(self.margin_s)
        self._agreed = StopAgreement(args.device)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> Any:
        """Report the step, and make the Trainer save and stop when leptond asks for it."""
        while _resumed:
            whole.loaded(_resumed.pop())
        job.report(step=state.global_step, total=state.max_steps if state.max_steps > 0 else None)
        if not self._stopping:
            self._stopping = self._agreed(job.should_stop(self.margin_s))
        if self._stopping:
            control.should_save = True
            control.should_training_stop = True
        return control

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **more: Any
    ) -> None:
        """Report the numbers that the Trainer logs, under its names; the rate as ``lr``."""
        numbers: dict[str, Any] = {
            "lr" if name == "learning_rate" else name: value
            for name, value in (logs or {}).items()
            if isinstance(value, int | float) and name.isidentifier() and name not in ("step", "total")
        }
        job.report(step=state.global_step, **numbers)

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Make the checkpoint that the Trainer has written durable, and tell leptond of it."""
        if not state.is_world_process_zero:
            return
        directory = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if args.world_size == 1 and directory.is_dir():  # other ranks may still be writing theirs
            whole.note_sizes(directory)
        job.checkpointed(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Leave with the exit code for "run me again" when leptond asked the job to stop."""
        self._agreed.leave_together()
        if self._stopping and state.global_step < state.max_steps:
            job.leave()


def resume_from(output_dir: str | Path) -> str | None:
    """The newest checkpoint below `output_dir` that the Trainer finished writing (its state is written last
    of all) and that is whole; None when there is none. A line on standard error names those that are passed
    over, and why."""
    found = []
    for path in Path(output_dir).glob("checkpoint-*"):
        number = path.name.removeprefix("checkpoint-")
        try:
            step = json.loads((path / "trainer_state.json").read_bytes())["global_step"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if number.isdecimal() and step == int(number):
            found.append((step, path))
    chosen = whole.newest(
        [path for _, path in sorted(found, reverse=True)], attempt=job.attempt if job.active else None
    )
    _resumed[:] = [chosen] if chosen is not None else []
    return str(chosen) if chosen is not None else None
