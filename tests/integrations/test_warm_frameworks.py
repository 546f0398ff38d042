"""Warm starts where people work: with transformers, datasets, Lightning, wandb, matplotlib and tqdm.

Run by hand, with the interpreter of an environment that has them in LEPTOND_TEST_FRAMEWORKS_PYTHON:
``python -m pytest -q -m slow tests/integrations/test_warm_frameworks.py``."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.daemon import Daemon, until

PYTHON = os.environ.get("LEPTOND_TEST_FRAMEWORKS_PYTHON", sys.executable)
NEEDED = ("torch", "transformers", "accelerate", "datasets", "lightning", "wandb", "matplotlib", "tqdm")
ENV = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
TRAINER = """
import torch, transformers, datasets, lightning, matplotlib.pyplot, tempfile, tqdm, os, sys, warnings, logging
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return {"input_ids": torch.arange(8) % 50, "labels": torch.tensor(i % 2)}

torch.manual_seed(0)
config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
with tempfile.TemporaryDirectory() as place:
    arguments = TrainingArguments(
        place, max_steps=2, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True
    )
    trainer = Trainer(model=BertForSequenceClassification(config), args=arguments, train_dataset=Data())
    print(f"{trainer.train().training_loss:.6f}")
print(datasets.Dataset.from_dict({"a": [1, 2]}).map(lambda row: {"b": row["a"] * 2})["b"][:])
print(torch.get_num_threads(), logging.getLogger("transformers").level, len(sys.meta_path))
print(matplotlib.get_backend(), sorted(n for n in ("torch", "datasets", "yaml") if n in sys.modules))
"""  # fmt: skip


def missing() -> list[str]:
    code = f"import importlib.util as u; print(*(n for n in {NEEDED!r} if u.find_spec(n) is None))"
    return subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trainer_starts_warm_and_does_the_same(tmp_path):
    if absent := missing():
        pytest.skip(f"{PYTHON} has no {', '.join(absent)}: name one in LEPTOND_TEST_FRAMEWORKS_PYTHON")
    env = {"LEPTOND_ENGINE__WARM": "true"}
    daemon = Daemon(tmp_path / "state", "--simulate-gpus", "1", env=env).start()
    script = tmp_path / "train.py"
    script.write_text(TRAINER)

    def run(**spec) -> tuple[str, str]:
        job = daemon.submit(PYTHON, str(script), cwd=str(tmp_path), env=ENV, **spec)
        ended = daemon.finished(job)
        assert ended["state"] == "succeeded", daemon.output(job)
        lines = [line for line in daemon.output(job).splitlines() if "train_runtime" not in line]
        return ended["attempts"][-1]["start"], "\n".join(lines)

    def learned() -> bool | None:
        run()
        shown = daemon.get("/v1/warm-environments").json["items"]
        return any("transformers" in one["learned"] for one in shown) or None

    _, cold = run(cold=True)
    until(lambda: learned() or learned() or learned() or learned(), "transformers is learned")
    for _ in range(3):
        start, output = run()
        assert (start, output) == ("warm", cold)
    print(json.dumps(daemon.get("/v1/warm-environments").json, indent=1))
    daemon.close()
