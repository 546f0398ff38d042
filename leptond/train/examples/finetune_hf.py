"""Fine-tuning with the Hugging Face Trainer, without a download: a small GPT-2 learns Python from the modules
of the standard library, and is then tuned for its package `email`, which it has not seen. Both stages resume.

    pip install transformers accelerate
    leptonctl submit --gpus 1 --retries 3 -- python -m leptond.train.examples.finetune_hf
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from leptond import job
from leptond.integrations.hf import LeptondCallback, resume_from
from leptond.train.text import read_text

CONTEXT = 64
TUNED_FOR = "email"
"""The package of the standard library that the second stage is about."""


def rows_of(text: Tensor) -> list[dict[str, Tensor]]:
    """The text in rows of `CONTEXT` characters, as the Trainer wants them: the row itself is to predict."""
    whole = text[: len(text) // CONTEXT * CONTEXT].long().view(-1, CONTEXT)
    return [{"input_ids": row, "labels": row} for row in whole]


def build() -> GPT2LMHeadModel:
    """A GPT-2 of two layers over ASCII, its weights a function of the seed."""
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=128, n_positions=CONTEXT, n_embd=64, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    return GPT2LMHeadModel(config)


def trainer_of(
    model: Any, directory: Path, train: list[Any], held_out: list[Any], steps: int, lr: float
) -> Trainer:
    """A Trainer whose checkpoints are in `directory`."""
    arguments = TrainingArguments(
        output_dir=str(directory),
        max_steps=steps,
        learning_rate=lr,
        lr_scheduler_type="cosine",
        per_device_train_batch_size=16,
        per_device_eval_batch_size=64,
        logging_steps=10,
        save_steps=50,
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        seed=1,
    )
    return Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=held_out,
        callbacks=[LeptondCallback()],
    )


def main() -> None:
    """Train in two stages, and print what the second one gains."""
    parser = argparse.ArgumentParser(description="Pre-train and fine-tune a small GPT-2 on Python source.")
    parser.add_argument("--steps", type=int, default=300, help="of the first stage")
    parser.add_argument("--tune-steps", type=int, default=150, help="of the second")
    parser.add_argument("--lr", type=float, default=3e-3)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # the model is too small to share out
    top = job.checkpoint_dir or Path("finetune")
    first, second, between = top / "first", top / "second", top / "pre-trained"
    special = rows_of(read_text(folder=TUNED_FOR))
    held_out, special = special[::10], [row for n, row in enumerate(special) if n % 10]

    if not (between / "config.json").exists():
        stage = trainer_of(build(), first, rows_of(read_text()), held_out, options.steps, options.lr)
        stage.train(resume_from_checkpoint=resume_from(first))
        aside = top / ".pre-trained"
        stage.save_model(str(aside))
        aside.rename(between)  # whole or not there
        print(f"pre-trained on the standard library for {options.steps} steps", flush=True)

    model = GPT2LMHeadModel.from_pretrained(between)
    stage = trainer_of(model, second, special, held_out, options.tune_steps, options.lr / 3)
    before = stage.evaluate()["eval_loss"]
    stage.train(resume_from_checkpoint=resume_from(second))
    after = stage.evaluate()["eval_loss"]
    print(f"final: held-out loss on {TUNED_FOR}: {before:.3f} before, {after:.3f} after tuning", flush=True)


if __name__ == "__main__":
    main()
