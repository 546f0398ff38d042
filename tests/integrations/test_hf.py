"""The callback with the real Hugging Face Trainer."""

import json
import os
import shutil
import signal

import pytest

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
torch = pytest.importorskip("torch")

from transformers import Trainer, TrainerCallback, TrainingArguments  # noqa: E402

from leptond import job  # noqa: E402
from leptond.integrations.hf import LeptondCallback, resume_from  # noqa: E402
from leptond.train.gpt import Gpt, next_token_loss  # noqa: E402
from tests.train.small import CONFIG, batch_of  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # the framework's warnings are its own


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.gpt = Gpt(CONFIG)

    def forward(self, rows, labels):
        return {"loss": next_token_loss(self.gpt(rows), labels)}


class Stop(TrainerCallback):
    """leptond's SIGTERM, in the middle of a step."""

    def on_step_begin(self, args, state, control, **more):
        if state.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)


def trainer(directory, *callbacks):
    rows, labels = (torch.cat(parts) for parts in zip(*(batch_of(n) for n in range(8)), strict=True))
    data = [{"rows": row, "labels": label} for row, label in zip(rows, labels, strict=True)]
    arguments = TrainingArguments(
        output_dir=str(directory),
        max_steps=12,
        per_device_train_batch_size=8,
        logging_steps=1,
        save_steps=100,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=3,
    )
    return Trainer(
        model=Model(), args=arguments, train_dataset=data, callbacks=[LeptondCallback(), *callbacks]
    )


def weights(one):
    return torch.cat([p.detach().flatten() for p in one.model.parameters()])


def test_it_reports_saves_when_told_to_stop_and_resumes(as_a_job, tmp_path, monkeypatch):
    undisturbed = trainer(tmp_path / "whole")
    undisturbed.train()
    told = as_a_job.heard(step=12, total=12)
    assert {"loss", "lr"} <= told[-1]["metrics"].keys()

    announced = []
    plain = job.checkpointed
    monkeypatch.setattr(job, "checkpointed", lambda step: (announced.append(step), plain(step)))
    directory = as_a_job.checkpoints
    assert resume_from(directory) is None
    with pytest.raises(SystemExit) as left:
        trainer(directory, Stop()).train()
    assert left.value.code == job.EXIT_RESUME
    assert as_a_job.word == "resume"
    assert as_a_job.heard(step=5)
    assert [step for step in announced if step != 12] == [5]
    (directory / "checkpoint-9").mkdir()  # torn: its state was never written
    found = resume_from(directory)
    assert found == str(directory / "checkpoint-5")
    half = shutil.copytree(found, directory / "checkpoint-7")
    state = json.loads((half / "trainer_state.json").read_text())
    (half / "trainer_state.json").write_text(json.dumps(state | {"global_step": 7}))
    os.truncate(half / "model.safetensors", (half / "model.safetensors").stat().st_size // 2)
    assert resume_from(directory) == found, "the newest is half there"
    job._term.clear()
    again = trainer(directory)
    again.train(resume_from_checkpoint=found)
    assert again.state.global_step == 12
    assert torch.equal(weights(again), weights(undisturbed)), "with dropout and shuffled data"
