"""The callback with the real Lightning Trainer."""

import os
import signal

import pytest

pl = pytest.importorskip("lightning.pytorch")
torch = pytest.importorskip("torch")

from leptond import job  # noqa: E402
from leptond.integrations.lightning import FILE, PREVIOUS, LeptondCallback, resume_from  # noqa: E402
from leptond.train.costs import Loader  # noqa: E402
from leptond.train.gpt import Gpt, next_token_loss  # noqa: E402
from tests.train.small import CONFIG, batch_of  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")  # the framework's warnings are its own


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)  # of the dropout, too, unless it goes on with other dice
        self.gpt = Gpt(CONFIG)  # with dropout
        self.stop_at = None

    def training_step(self, batch, batch_idx):
        if self.global_step == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        loss = next_token_loss(self.gpt(batch[0]), batch[1])
        self.log("nats", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def fit(directory, stop_at=None):
    model = Model()
    model.stop_at = stop_at
    trainer = pl.Trainer(
        max_steps=12,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LeptondCallback(every=5)],
        default_root_dir=str(directory),
    )
    rows, following = (torch.cat(parts) for parts in zip(*(batch_of(n) for n in range(5)), strict=True))
    loader = Loader(torch.utils.data.TensorDataset(rows, following), 16, seed=4)  # epochs of five steps
    trainer.fit(model, loader, ckpt_path=resume_from(directory))
    return trainer


def test_it_reports_saves_when_told_to_stop_and_resumes(as_a_job, tmp_path, monkeypatch):
    monkeypatch.setenv("LEPTOND_CHECKPOINT_DIR", str(tmp_path / "whole"))
    (tmp_path / "whole").mkdir()
    whole = fit(tmp_path / "whole")
    told = as_a_job.heard(step=12, total=12)
    assert told[-1]["checkpoint"]["step"] == 10
    assert {"loss", "lr", "nats"} <= told[-1]["metrics"].keys()

    monkeypatch.setenv("LEPTOND_CHECKPOINT_DIR", str(as_a_job.checkpoints))
    with pytest.raises(SystemExit) as left:
        fit(as_a_job.checkpoints, stop_at=6)
    assert left.value.code == job.EXIT_RESUME
    assert as_a_job.word == "resume"
    assert as_a_job.heard(step=7)
    state = torch.load(resume_from(as_a_job.checkpoints), weights_only=False)
    assert state["global_step"] == 7
    assert (as_a_job.checkpoints / PREVIOUS).exists()
    job._term.clear()
    job._channel.close()
    monkeypatch.setattr(job, "_channel", None)
    trainer = fit(as_a_job.checkpoints)
    assert trainer.global_step == 12
    steps = [one["step"] for one in as_a_job.heard(step=12) if "step" in one]
    assert min(steps) >= 7, "it went on behind the checkpoint"
    assert 8 in steps
    newest = as_a_job.checkpoints / FILE
    os.truncate(newest, newest.stat().st_size // 2)
    assert resume_from(as_a_job.checkpoints) == str(as_a_job.checkpoints / PREVIOUS)
    wanted = whole.lightning_module.state_dict()
    assert all(torch.equal(got, wanted[name]) for name, got in trainer.lightning_module.state_dict().items())
