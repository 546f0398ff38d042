"""The loop: a training that is killed, stopped, tuned or goes wrong ends as it should."""

import json
import math
import os
import random
import re
import shutil
import signal
import socket
import statistics
import sys
import time
from collections import deque
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from leptond import job  # noqa: E402
from leptond.client.torchrun import under_torchrun  # noqa: E402
from leptond.train.checkpoint import Checkpoints  # noqa: E402
from leptond.train.costs import Precision  # noqa: E402
from leptond.train.gpt import next_token_loss  # noqa: E402
from leptond.train.loop import Guard  # noqa: E402
from tests.support.daemon import until  # noqa: E402
from tests.train import small  # noqa: E402

SCRIPT = [sys.executable, "-m", "tests.train.small"]
TOP = str(small.Path(__file__).parents[2])


@pytest.fixture
def as_a_job(tmp_path, monkeypatch):
    """This process as a leptond job; gives the daemon's end of its channel."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as daemon:
        daemon.bind(str(tmp_path / "r"))
        for name, value in {
            "LEPTOND_ATTEMPT_ID": "a" * 32,
            "LEPTOND_SOCKET": str(tmp_path / "r"),
            "LEPTOND_ATTEMPT_DIR": str(tmp_path),
        }.items():
            monkeypatch.setenv(name, value)
        for name, value in {"_channel": None, "_knobs": {}, "_catching": False, "_near": False}.items():
            monkeypatch.setattr(job, name, value)
        before = signal.getsignal(signal.SIGTERM)
        yield daemon
        signal.signal(signal.SIGTERM, before)
        job._term.clear()
        if job._channel is not None:
            job._channel.close()


def ask(directory, version, versions, **values):
    """What the daemon leaves for a job whose knobs were turned."""
    (directory / "new").write_text(json.dumps({"version": version, "values": values, "versions": versions}))
    (directory / "new").replace(directory / "tune.json")


def in_a_fork(work) -> int:
    """The pid of a process that does `work` and leaves with what it returns."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work() or 0
        except SystemExit as end:
            code = end.code
        finally:
            os._exit(code)
    return pid


def result(path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_killed_at_random_moments_it_ends_bit_for_bit_the_same(tmp_path, kills):
    undisturbed = small.training(None)
    small.run(undisturbed)
    wanted = small.fingerprint(undisturbed.model)
    dice, done, killed, trial = random.Random(kills), 0, 0, 0
    while killed < kills:
        trial += 1
        directory, out = tmp_path / f"c{trial}", tmp_path / f"out{trial}"

        def work(directory=directory, out=out):
            one = small.training(directory)
            first = []

            def note(step):
                if not first:
                    first.append(step)
                (tmp_path / "steps").open("a").write(f"{step}\n")

            small.run(one, note)
            out.write_text(small.fingerprint(one.model))

        while not out.exists():
            pid = in_a_fork(work)
            if killed < kills:
                time.sleep(dice.uniform(0.0, 0.5))  # the moment of the kill: any is right
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            if os.WIFSIGNALED(status):
                killed += 1
            else:
                assert os.WEXITSTATUS(status) == 0
        assert result(out) == wanted
        done += 1
    # steps are done again only from the last checkpoint on
    steps = [int(line) for line in (tmp_path / "steps").read_text().split()]
    for before, after in pairwise(steps):
        assert after == before + 1 or after % 7 == 0
        assert after > before - 2 * 7 or after == 0, "at most one checkpoint was still being written"


def half(directory, scale=2.0**40) -> tuple:
    """A training in half precision, whose first scale is too large, and its losses."""
    precision = Precision("fp16")
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    one = small.training(directory, total=40, precision=precision)
    losses = []
    for step in one:
        rows, following = small.batch_of(step)
        with precision.forward():
            scores = one.model(rows)
            loss = next_token_loss(scores, following)
        assert scores.dtype == torch.float16
        before = small.fingerprint(one.model), one.schedule.rate, one.skipped
        one.update(loss)
        skipped = one.skipped > before[2]
        assert ((small.fingerprint(one.model), one.schedule.rate) == before[:2]) == skipped
        losses.append(one.loss)
    return one, losses


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*")
def test_in_half_precision_a_step_that_overflows_is_left_out_and_the_scale_is_resumed(tmp_path):
    whole, losses = half(tmp_path / "c")
    assert 5 < whole.skipped < 30
    assert losses[-1] < losses[0] - 0.3
    assert whole.precision.scaler.get_scale() == 2.0**40 / 2**whole.skipped
    for path in (tmp_path / "c").glob("step-*"):
        if int(path.name[5:15]) > 28:
            shutil.rmtree(path)
    again, later = half(tmp_path / "c", scale=1.0)
    assert later == losses[28:]
    assert small.fingerprint(again.model) == small.fingerprint(whole.model)
    assert (again.skipped, again.precision.state_dict()) == (whole.skipped, whole.precision.state_dict())


def test_told_to_stop_it_saves_and_asks_to_be_run_again(tmp_path, as_a_job):
    wanted = small.training(None)
    small.run(wanted)
    one = small.training(tmp_path / "c")
    with pytest.raises(SystemExit) as left:
        small.run(one, lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 10 else None)
    assert left.value.code == job.EXIT_RESUME
    assert json.loads((tmp_path / "word.json").read_text())["reason"] == "resume"
    job._term.clear()
    again = small.training(tmp_path / "c")
    losses = small.run(again)
    assert len(losses) == 60 - 11, "the step was finished and saved"
    assert small.fingerprint(again.model) == small.fingerprint(wanted.model)


def test_the_rate_is_tuned_at_the_next_step_and_a_retry_keeps_it(tmp_path, as_a_job):
    plain = small.training(None)
    rates = []
    small.run(plain, lambda step: rates.append(plain.optimizer.param_groups[0]["lr"]))
    ask(tmp_path, 0, {})

    def tuned(step):
        seen[step] = one.optimizer.param_groups[0]["lr"]
        if step == 20:
            ask(tmp_path, 1, {"lr": 1}, lr=1e-4)
        if step == 30 and len(seen) < 40:
            raise KeyboardInterrupt

    seen: dict[int, float] = {}
    one = small.training(tmp_path / "c")
    with pytest.raises(KeyboardInterrupt):
        small.run(one, tuned)
    assert [seen[step] for step in range(21)] == rates[:21]
    assert seen[21] == pytest.approx(1e-4, rel=1e-12)
    assert seen[30] == pytest.approx(1e-4 * rates[30] / rates[21])
    one.checkpoints.wait()
    seen[999] = 0.0
    # resumed from step 28, in which the rate has been turned already; and from 14, in which it has not
    for cut, keep in ((28, 99), (14, 14)):
        for path in (tmp_path / "c").glob("step-*"):
            if int(path.name[5:15]) > keep:
                path.rename(tmp_path / path.name)
        one = small.training(tmp_path / "c")
        steps = iter(one)
        assert next(steps) == cut
        now = one.optimizer.param_groups[0]["lr"]
        assert now == pytest.approx(1e-4 * rates[28] / rates[21] if cut == 28 else 1e-4)
        steps.close()
        one.checkpoints.wait()


def test_any_declared_knob_can_be_turned_within_its_bounds(tmp_path, as_a_job):
    one = small.training(None)
    seen = []

    def on_step(step):
        seen.append(one.knob("noise", 0.5, low=0.0, high=1.0))
        if step == 3:
            ask(tmp_path, 1, {"noise": 1, "early": 1}, noise=0.25, early=7.0)
        if step == 6:
            ask(tmp_path, 2, {"noise": 2, "early": 1}, noise=2.0, early=7.0)
        if step == 8:
            assert one.knob("early", 1.0, low=0.0, high=10.0) == 7.0, "asked for before it was declared"

    small.run(one, on_step)
    assert seen[:10] == [0.5] * 4 + [0.25] * 6
    assert seen[-1] == 0.25
    with pytest.raises(ValueError, match="cannot be declared"):
        one.knob("lr", 1.0, low=0.0, high=2.0)
    assert "lr" in json.loads(as_a_job.recv(65536))["knobs"]


def spoil(one, when):
    """Makes the loss of those steps wrong, once for each time that it stands in `when`."""
    plain = one.update

    def update(loss):
        if one.step in when:
            value = when[one.step].pop()
            if not when[one.step]:
                del when[one.step]
            loss = loss * value
        plain(loss)

    one.update = update


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 50.0])
def test_a_loss_that_goes_wrong_sends_it_back_with_a_lower_rate(tmp_path, wrong):
    one = small.training(Checkpoints(tmp_path, keep=10), guard=Guard(spike=4.0, reduce=0.5, most=3))
    spoil(one, {33: [wrong]})
    rates = {}
    small.run(one, lambda step: rates.setdefault((one.generation, step), one.schedule.rate))
    assert one.step == 60
    assert one.generation == 1
    # back to 28, with half the rate, and the shape of the schedule kept
    assert (1, 28) in rates
    assert (1, 27) not in rates
    for step in (28, 30, 33):
        assert rates[1, step] == pytest.approx(rates[0, step] / 2)
    assert all(torch.isfinite(p).all() for p in one.model.parameters())


def first_fault(losses, guard=None):
    """The number of the first loss that the guard calls wrong; None if there is none."""
    guard, recent, level = guard or Guard(), deque(maxlen=50), 0.0
    for number, loss in enumerate(losses):
        if guard.fault(loss, recent, level) is not None:
            return number
        recent.append(loss)
        if len(recent) >= 20:
            level = max(level, statistics.median(recent))
    return None


@pytest.mark.parametrize("unlucky", [0.0, 0.003, 0.02, 0.1, 0.3])
def test_unlucky_batches_of_a_converged_training_are_not_wrong(unlucky):
    draw = random.Random(7)

    def loss(step):
        usual, spread = 1e-4 + 0.7 * 0.97**step, min(1.0, 0.1 + step / 300)
        return draw.uniform(0.2, 1.1) if draw.random() < unlucky else usual * draw.lognormvariate(0, spread)

    assert first_fault([loss(step) for step in range(20_000)]) is None


@pytest.mark.parametrize(
    ("after", "within"),
    [
        (lambda step: 50.0, 1),  # far above all that was ever usual
        (lambda step: 9.0, 5),  # as bad as at the beginning, and it stays there
        (lambda step: 2.0 * 1.1**step, 60),
        (lambda step: math.nan, 1),
    ],
)
def test_a_loss_that_goes_wrong_is_noticed(after, within):
    draw = random.Random(7)
    good = [2.0 + 9.0 * 0.99**step + draw.uniform(-0.2, 0.2) for step in range(800)]
    found = first_fault(good + [after(step) for step in range(200)])
    assert 800 <= found < 800 + within


def test_no_checkpoint_is_made_while_the_loss_may_be_going_wrong(tmp_path):
    one = small.training(Checkpoints(tmp_path, keep=20), total=110, guard=Guard(most=3))
    at_first = {step: [10.0] for step in range(20)}
    spoil(one, at_first | {step: [6.0] for step in range(90, 95)})  # a checkpoint is due at step 91
    small.run(one)
    saved = {path.name for path in tmp_path.glob("step-*")}
    assert (one.step, one.generation) == (110, 1)
    assert "step-0000000091.0001" in saved, "after it went back"
    assert not {f"step-00000000{step}.0000" for step in range(91, 96)} & saved, "before"


def test_a_loss_that_stays_wrong_ends_as_diverged(tmp_path, as_a_job):
    one = small.training(Checkpoints(tmp_path / "c", keep=10), guard=Guard(most=2))
    spoil(one, {33: [math.nan] * 9})
    steps = []
    with pytest.raises(SystemExit) as left:
        small.run(one, steps.append)
    assert left.value.code == job.EXIT_DIVERGED
    word = json.loads((tmp_path / "word.json").read_text())
    assert word["reason"] == "diverged"
    assert "at step 33, after going back 2 times" in word["detail"]
    starts = [after for before, after in pairwise(steps) if after <= before]
    assert starts == [28, 21], "further back each time"


@pytest.mark.slow
@pytest.mark.parametrize("number", [9, 11])
def test_a_rank_that_is_killed_under_torchrun_is_judged_as_one_process(daemon, tmp_path, number):
    script = tmp_path / "killed.py"
    script.write_text(
        "import os, time\ntime.sleep(0.5)\n"
        f"os.kill(os.getpid(), {number}) if os.environ['RANK'] == '1' else time.sleep(600)\n"
    )
    argv = under_torchrun([sys.executable, str(script)], 2)
    done = daemon.finished(daemon.submit(*argv, gpus=2, no_retry_on=["external-kill"]))
    assert (done["class"], done["exit_code"]) == ("external-kill" if number == 9 else "signal", 1)
    assert "rank 1" in done["explanation"]


def test_ranks_under_torchrun_say_why_they_left(daemon, tmp_path):
    """`--nproc` as the command line makes it: torchrun turns the exit code into 1, the word comes through,
    also that of a rank which leaves before the first one does."""
    script, met = tmp_path / "ranks.py", tmp_path / "met"
    met.mkdir()
    script.write_text(
        f"import os, sys, time; sys.path.insert(0, {TOP!r})\nfrom leptond import job\n"
        # in one write: the ranks print at the same time
        "sys.stdout.write('rank %s of %s at %s\\n' %"
        " tuple(os.environ[name] for name in ('RANK', 'WORLD_SIZE', 'MASTER_PORT')))\n"
        "job.report(step=1, everyone=True, mine=float(os.environ['RANK']))\n"
        f"open({str(met)!r} + '/' + os.environ['RANK'], 'w').close()\n"
        f"while len(os.listdir({str(met)!r})) < 2: time.sleep(0.01)\n"
        # torchrun ends the others when one has left
        "time.sleep(600 if os.environ['RANK'] == '0' else 0)\n"
        "job.leave('diverged', 'as it was told')\n"
    )
    done = daemon.finished(
        daemon.submit(*under_torchrun([sys.executable, str(script)], 2), gpus=2, retries=2)
    )
    assert (done["class"], done["exit_code"], done["attempt"]) == ("diverged", 1, 1)
    out = daemon.output(done["id"])
    assert "rank 0 of 2" in out
    assert done["progress"]["metrics"]["mine"] == 0.0


def test_through_the_daemon_a_running_job_is_tuned_killed_and_resumed(warm_daemon, tmp_path):
    """The whole way: knobs declared, tuned over HTTP, the process killed, and the retry keeps the rate."""
    daemon, marker = warm_daemon, tmp_path / "fast"
    number = daemon.submit(*SCRIPT, "150", "10", str(marker), cwd=TOP, retries=2, retry_delay_s=0.1)
    found = until(
        lambda: (found := daemon.job(number))["progress"] and "lr" in found["progress"]["knobs"] and found,
        "the job declares its knobs",
    )
    assert daemon.post(f"/v1/jobs/{number}/tune", {"values": {"lr": 1e9}}).status == 422
    assert daemon.post(f"/v1/jobs/{number}/tune", {"values": {"depth": 1}}).status == 422
    assert daemon.post(f"/v1/jobs/{number}/tune", {"values": {}}).status == 422
    answer = daemon.post(f"/v1/jobs/{number}/tune", {"values": {"lr": 1.25e-4}})
    assert (answer.status, answer.json["tuned"]) == (200, {"lr": 1.25e-4})
    out = daemon.printed(number, "0.000125")
    turned = int(re.findall(r"rate (\d+) 0\.000125", out)[0])
    until(lambda: (daemon.job(number)["progress"]["checkpoint_step"] or 0) > turned, "a later checkpoint")
    os.kill(found["attempts"][0]["pid"], signal.SIGKILL)
    marker.touch()
    done = daemon.finished(number)
    assert [one["class"] for one in done["attempts"]] == ["external-kill", "ok"]
    rates = dict(re.findall(r"rate (\d+) (\S+)", daemon.output(number, 1)))
    later = dict(re.findall(r"rate (\d+) (\S+)", daemon.output(number, 2)))
    both = rates.keys() & later.keys()
    assert all(rates[step] == later[step] for step in both), "the retry goes on at the tuned rate"
    assert float(later["149"]) < 1.25e-4
    marks = daemon.get(f"/v1/jobs/{number}/metrics").json["marks"]
    assert [mark["kind"] for mark in marks][:2] == ["job.tune", "job.tuned"]
    assert daemon.post(f"/v1/jobs/{number}/tune", {"values": {"lr": 1e-4}}).status == 409
