"""`leptond.job` from the side of the training: says what it should, costs little, and never waits."""

import json
import socket
import subprocess
import sys

import pytest

from leptond import job
from leptond.job import MAX_METRICS, Channel

ID = "a" * 32


@pytest.fixture
def daemon(tmp_path):
    """The daemon's end of the channel."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as one:
        one.bind(str(tmp_path / "r"))
        yield one


@pytest.fixture
def channel(tmp_path):
    """Makes the job's end of it."""
    made = []

    def make(**more) -> Channel:
        env = {"LEPTOND_ATTEMPT_ID": ID, "LEPTOND_SOCKET": str(tmp_path / "r")}
        made.append(Channel(env | {"LEPTOND_ATTEMPT_DIR": str(tmp_path), **more}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def heard(daemon) -> list[dict]:
    found = []
    while True:
        try:
            found.append(json.loads(daemon.recv(65536)))
        except BlockingIOError:
            return found


def test_outside_leptond_nothing_happens():
    code = (
        "import signal; from leptond import job; job.report(step=1, loss=2.0); job.checkpointed(1);"
        "assert not job.should_stop(); assert job.knob('lr', 0.5, low=0, high=1) == 0.5;"
        "assert (job.active, job.attempt, job.resume, job.checkpoint_dir, job.deadline)"
        " == (False, 1, False, None, None);"
        "assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL; job.leave()"
    )
    done = subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"])
    assert done.returncode == 75


def test_it_is_of_the_standard_library_alone():
    code = "import sys; before = set(sys.modules); import leptond.job; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    outside = {name.partition(".")[0] for name in loaded.split()} - set(sys.stdlib_module_names)
    assert outside == {"leptond"}
    assert not {"asyncio", "msgspec", "leptond.core"} & set(loaded.split())


def test_a_report_is_the_whole_state(tmp_path, channel, daemon):
    one = channel()
    one.report(10, 100, {"loss": 2.5, "lr": None, "bad": float("nan")}, everyone=False)
    one.set(checkpoint={"step": 10, "at": 1.0})
    first, second = heard(daemon)
    assert (first["attempt"], first["step"], first["total"], first["first_step"]) == (ID, 10, 100, 10)
    assert first["metrics"] == {"loss": 2.5, "bad": None}
    assert second["checkpoint"] == {"step": 10, "at": 1.0}
    assert (second["step"], second["metrics"]) == (10, first["metrics"])


def test_reports_come_at_their_pace_and_the_last_is_not_lost(tmp_path, channel, daemon):
    one = channel()
    for step in range(1, 200):
        one.report(step, 200, {"loss": float(step)}, everyone=False)
    one.flush()
    one.flush()
    told = heard(daemon)
    assert len(told) < 100
    assert (told[0]["step"], told[-1]["step"], told[-1]["metrics"]["loss"]) == (1, 199, 199.0)


def test_a_rung_is_told_at_its_very_step_and_in_every_report_after(tmp_path, channel, daemon):
    one = channel(LEPTOND_SWEEP_RUNGS="10:3:loss")
    for step in range(1, 200):
        one.report(step, 200, {"loss": float(step)}, everyone=False)
    told = heard(daemon)
    assert [report["step"] for report in told][:4] == [1, 10, 30, 90]
    assert told[-1]["rungs"] == {"10": [10, 10.0], "30": [30, 30.0], "90": [90, 90.0]}
    one.report(200, 200, {"loss": 0.0}, everyone=False)
    one.flush()
    assert heard(daemon)[-1]["rungs"] == told[-1]["rungs"], "the end is no rung"


def test_rungs_by_the_total_and_after_a_resume(tmp_path, channel, daemon):
    one = channel(LEPTOND_SWEEP_RUNGS="0:3:acc")
    one.report(95, None, {"acc": 0.1}, everyone=False)
    for step in range(96, 1000):  # the first rung is at 100, and there is none below 96 to be made up for
        one.report(step, 2700, {"acc": 0.5} if step != 300 else {"acc": float("nan")}, everyone=False)
    one.flush()
    assert heard(daemon)[-1]["rungs"] == {"100": [100, 0.5], "300": [300, None], "900": [900, 0.5]}
    again = channel(LEPTOND_SWEEP_RUNGS="0:3:acc")
    again.report(700, 2700, {"acc": 0.9}, everyone=False)
    again.report(1500, 2700, {"loss": 1.0}, everyone=False)
    again.flush()
    assert heard(daemon)[-1]["rungs"] == {"900": [1500, 0.9]}


def test_it_never_waits_for_a_daemon_that_is_slow_or_away(tmp_path, channel, daemon):
    one = channel()
    for step in range(2000):  # many times what the socket holds
        one.set(step=step)
    assert 0 < len(heard(daemon)) < 2000
    one.set(step=2000)
    assert heard(daemon)[0]["step"] == 2000
    daemon.close()
    one.set(step=2001)
    (tmp_path / "r").unlink()
    one.set(step=2002)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind(str(tmp_path / "r"))
        one.flush()
        assert json.loads(again.recv(65536))["step"] == 2002


def test_only_the_first_rank_reports_unless_all_are_asked(tmp_path, channel, daemon):
    other = channel(RANK="3")
    other.report(5, 9, {"loss": 1.0}, everyone=False)
    assert heard(daemon) == []
    other.report(5, 9, {"loss": 1.0}, everyone=True)
    (told,) = heard(daemon)
    assert told["metrics"] == {"loss@3": 1.0}
    assert "step" not in told


def test_a_tensor_is_read_only_when_it_is_sent(tmp_path, channel, daemon):
    class Tensor:
        reads = 0

        def __float__(self):
            self.reads += 1
            return 1.5

    one, loss = channel(), Tensor()
    for step in range(50):
        one.report(step, None, {"loss": loss}, everyone=False)
    told = heard(daemon)
    assert 1 <= loss.reads <= len(told) < 50
    assert told[0]["metrics"] == {"loss": 1.5}


def test_metrics_are_bounded(tmp_path, channel, daemon):
    one = channel()
    one.report(1, None, {f"m{n}": 1.0 for n in range(500)}, everyone=False)
    assert len(heard(daemon)[0]["metrics"]) == MAX_METRICS


def test_a_knob_follows_what_was_asked_for(tmp_path, channel, daemon, monkeypatch):
    one = channel()
    monkeypatch.setattr(job, "_channel", one)
    monkeypatch.setattr(job, "_knobs", {})
    monkeypatch.setenv("LEPTOND_ATTEMPT_ID", ID)

    def asked(version, **values):
        (tmp_path / "new").write_text(json.dumps({"version": version, "values": values, "versions": {}}))
        (tmp_path / "new").replace(tmp_path / "tune.json")

    assert job.knob("lr", 0.5, low=0.0, high=1.0) == 0.5
    asked(1, lr=0.25)
    assert job.knob("lr", 0.5, low=0.0, high=1.0) == 0.25
    asked(2, lr=7.0)
    assert job.knob("lr", 0.5, low=0.0, high=1.0) == 0.5, "out of its bounds: not taken"
    (tmp_path / "tune.json").write_text("{")
    assert job.knob("lr", 0.5, low=0.0, high=1.0) == 0.5
    told = heard(daemon)
    assert [one["knobs"]["lr"]["value"] for one in told] == [0.5, 0.25, 0.5]
    assert [one["tuned"] for one in told] == [0, 1, 2]
    for bad in ((2.0, 0.0, 1.0), (0.0, 0.0, float("inf")), (float("nan"), 0.0, 1.0)):
        with pytest.raises(ValueError, match="not within"):
            job.knob("lr", bad[0], low=bad[1], high=bad[2])


def test_the_word_of_any_rank_is_there_and_that_of_the_first_stays(channel, tmp_path):
    def word():
        return json.loads((tmp_path / "word.json").read_text())["detail"]

    ranks = [channel(RANK=str(rank)) for rank in range(3)]
    for rank, expected in ((2, "of 2"), (1, "of 2"), (0, "of 0"), (1, "of 0")):
        ranks[rank].leave_word("resume", f"of {rank}")
        assert word() == expected
    assert [file.name for file in tmp_path.iterdir() if "word" in file.name] == ["word.json"]
