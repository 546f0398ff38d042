"""The start of a training: to the first line after `import torch`, and to the first optimizer step, also
where people work: in an environment with the packages that are installed beside torch."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from tests.benchmarks.bench import PACKAGES, Bench
from tests.benchmarks.figures import row
from tests.benchmarks.rows import Row
from tests.benchmarks.starts import Training, cold_and_warm

IMPORT = """\
import torch
import time
print("first", time.time_ns() / 1e6, flush=True)
"""

STEP = """\
import time

import torch

torch.set_num_threads(1)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.AdamW(model.parameters())
loss = model(torch.ones(4, 8)).square().mean()
loss.backward()
optimizer.step()
print("first", time.time_ns() / 1e6, flush=True)
"""

TRAINER = """\
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments


class Stamp(TrainerCallback):
    def on_optimizer_step(self, *_, **__):
        print("first", time.time_ns() / 1e6, flush=True)


torch.set_num_threads(1)
sizes = dict(vocab_size=128, n_positions=16, n_embd=16, n_layer=1, n_head=2)
config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
rows = [{"input_ids": torch.arange(16), "labels": torch.arange(16)}] * 4
arguments = TrainingArguments(output_dir="out", max_steps=1, save_strategy="no", report_to=[], use_cpu=True)
Trainer(model=GPT2LMHeadModel(config), args=arguments, train_dataset=rows, callbacks=[Stamp()]).train()
"""

SMALL_JOBS, TRAINER_JOBS = 10, 5
"""Warm starts in each run; of cold ones, one."""


def run(bench: Bench) -> list[Row]:
    """From the submit of a job to its line, cold and warm, on an idle daemon. The floor is the same command
    by hand."""
    rows = []
    for key, python, script, jobs in (
        ("import", _python(), IMPORT, SMALL_JOBS),
        ("import_packages", bench.python_with_packages(), IMPORT, SMALL_JOBS),
        ("step", _python(), STEP, SMALL_JOBS),
        ("step_hf", bench.python_with_packages(), TRAINER, TRAINER_JOBS),
    ):
        if python:
            rows.append(cold_and_warm(bench, key, Training(python=python, script=script), jobs))
        else:
            why = "torch is not installed" if key in ("import", "step") else NO_PACKAGES
            rows.append(row(key, bench.load, (), note=why))
    return rows


NO_PACKAGES = f"there is no environment with {PACKAGES} (--packages)"


def _python() -> str:
    return sys.executable if find_spec("torch") is not None else ""
