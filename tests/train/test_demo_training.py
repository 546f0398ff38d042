"""The training of the demonstration: an ordinary script that learns, stops and resumes as a good job does."""

import json
import os
import re
import runpy
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

from leptond.demo.training import read_text
from tests.support.daemon import until

SCRIPT = Path(__file__).parents[2] / "leptond" / "demo" / "training.py"
SMALL = ["--width", "32", "--context", "32", "--report-every", "10"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
LAUNCHERS = ["forks", pytest.param("torchrun", marks=pytest.mark.slow)]  # four processes import torch


def options_of(directory, arguments):
    """The script's options, with its metrics in `directory`."""
    return [*SMALL, "--metrics-file", str(directory / "metrics.jsonl"), *arguments]


def environment(directory, **more):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LEPTOND_")}
    # torchrun leaves a directory in TMPDIR
    return {**clean, "OMP_NUM_THREADS": "1", "TMPDIR": str(directory), **more}


def start(directory, *arguments, ranks=None, env=None, stderr=subprocess.PIPE):
    """The script as a process of its own, under torchrun (on a free port) if `ranks` are given."""
    launcher = [sys.executable] if ranks is None else [*TORCHRUN, str(ranks)]
    return subprocess.Popen(
        [*launcher, str(SCRIPT), *options_of(directory, arguments)],
        env=environment(directory, **(env or {})),
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def script(directory, arguments, env):
    """The script as it is when it is started, in this process, a fork that has imported torch already."""
    ours = {
        name: os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    }
    full = environment(directory, **ours, **env)
    os.environ.clear()
    os.environ.update(full)
    sys.argv = [str(SCRIPT), *options_of(directory, arguments)]
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(directory / f"{name}-{os.environ['RANK']}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        setattr(sys, name, open(number, "w", closefd=False))  # noqa: SIM115 - a descriptor
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            raise SystemExit(1) from None
        raise
    except BaseException:
        traceback.print_exc()
        raise SystemExit(1) from None
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def fork(directory, arguments, ranks, env, meanwhile=lambda pids: None):
    """The script in so many forks of this process: exit codes by rank, and what they printed together."""
    pytest.importorskip("torch")
    from tests.train.forks import forked

    codes, _ = forked(ranks, lambda rank: script(directory, arguments, env), directory, meanwhile)
    out, err = (
        "".join((directory / f"{name}-{rank}").read_text() for rank in range(ranks))
        for name in ("stdout", "stderr")
    )
    return subprocess.CompletedProcess(arguments, max(codes, key=abs), out, err)


def train(directory, *arguments, ranks=1, launcher="forks", code=0, **env):
    if launcher == "forks":
        done = fork(directory, arguments, ranks, env)
    else:
        with start(directory, *arguments, ranks=ranks, env=env) as run:
            out, err = run.communicate(timeout=150)
        done = subprocess.CompletedProcess(arguments, run.returncode, out, err)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def stop_after_line(directory, begins, *arguments, ranks=1, launcher="forks"):
    """Runs until a line begins with `begins` and sends SIGTERM, to torchrun or else to the last rank alone;
    the exit code and all the lines."""
    if launcher == "torchrun":
        with start(directory, *arguments, ranks=ranks, stderr=subprocess.DEVNULL) as run:
            lines = []
            for line in run.stdout:
                lines.append(line)
                if line.startswith(begins):
                    run.send_signal(signal.SIGTERM)
            return run.wait(60), "".join(lines)

    def stop(pids):
        printed = directory / "stdout-0"
        until(lambda: printed.exists() and f"\n{begins}" in printed.read_text(), begins)
        os.kill(pids[-1], signal.SIGTERM)

    done = fork(directory, arguments, ranks, {}, stop)
    return done.returncode, done.stdout


def reports(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def final(output):
    """The numbers of the last line, by name."""
    last = output.splitlines()[-1]
    assert last.startswith("final: "), output
    return {name: float(value) for name, value in re.findall(r"(\w+)=(\S+)", last)}


@pytest.fixture
def folders(tmp_path):
    """Two empty directories: one for the whole run, one for that in parts."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    return whole, parts


def test_it_learns(tmp_path):
    end = final(train(tmp_path, "--steps", "100").stdout)
    assert end["step"] == 100
    assert end["start_loss"] == pytest.approx(4.85, abs=0.2), "ln 128: it knows nothing at the start"
    assert end["train_loss"] < 3.0
    assert end["heldout_loss"] < 3.0
    curve = [one["held_out"] for one in reports(tmp_path)]
    assert len(curve) == 10
    assert curve[-1] < curve[0] - 0.5


def test_a_training_that_fails_ends_as_one_that_does_not(folders):
    whole, parts = folders
    # dropout: the random numbers must go on where they were, too
    run = ["--steps", "40", "--dropout", "0.2", "--checkpoint-every", "10"]
    train(whole, *run, "--checkpoint-dir", str(whole))
    fails = [*run, "--fail-once-at-step", "25"]
    first = train(parts, *fails, code=1, LEPTOND_ATTEMPT="1", LEPTOND_CHECKPOINT_DIR=str(parts))
    assert "RuntimeError: a fault that goes away, at step 25 (--fail-once-at-step)" in first.stderr
    second = train(parts, *fails, LEPTOND_ATTEMPT="2", LEPTOND_CHECKPOINT_DIR=str(parts))
    assert "resumed from step 20" in second.stdout
    told = reports(parts)
    assert [(one["attempt"], one["step"]) for one in told] == [(1, 10), (1, 20), (2, 30), (2, 40)]
    for one, other in zip(reports(whole), told, strict=True):
        assert {**other, "attempt": 1} == one, "not even the last bit differs"


def test_a_sigterm_saves_and_a_second_run_goes_on(folders):
    whole, parts = folders
    run = ["--steps", "40", "--dropout", "0.2"]
    end = final(train(whole, *run).stdout)
    checkpoints = parts / "checkpoints"
    saves = [*run, "--checkpoint-every", "1000", "--checkpoint-dir", str(checkpoints)]
    # slow, so that the signal comes long before the last step
    code, output = stop_after_line(parts, "step 10/", *saves, "--slow", "0.1")
    assert code == 0, output
    step = int(re.search(r"^saved at step (\d+) after SIGTERM$", output, re.MULTILINE)[1])
    assert 10 <= step < 40
    assert [file.name for file in checkpoints.iterdir()] == ["training.pt"]
    again = train(parts, *saves).stdout
    assert f"resumed from step {step}" in again
    assert final(again) == end


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_ranks_train_as_one_with_the_batch_of_both(folders, launcher):
    alone, together = folders
    train(alone, "--steps", "20", "--batch", "16")
    output = train(together, "--steps", "20", "--batch", "8", ranks=2, launcher=launcher).stdout
    assert "2 ranks hold the same weights" in output
    assert output.count("final: ") == 1, "one rank speaks"
    told = reports(together)
    assert {(one["rank"], one["world_size"]) for one in told} == {(0, 2)}
    # only if the gradients of both ranks' rows are averaged in every step
    losses = [one["loss"] for one in reports(alone)]
    assert [one["loss"] for one in told] == pytest.approx(losses, abs=1e-3)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_ranks_stop_after_the_same_step_and_go_on(tmp_path, launcher):
    run = ["--steps", "40", "--checkpoint-dir", str(tmp_path / "checkpoints")]
    # torchrun itself exits with 1 after a SIGTERM, also when its workers left cleanly
    _, output = stop_after_line(tmp_path, "step 10/", *run, "--slow", "0.1", ranks=2, launcher=launcher)
    step = int(re.search(r"^saved at step (\d+) after SIGTERM$", output, re.MULTILINE)[1])
    again = train(tmp_path, *run, ranks=2, launcher=launcher).stdout
    assert f"resumed from step {step}" in again
    assert "2 ranks hold the same weights" in again
    assert final(again)["step"] == 40


def test_a_retry_by_hand_does_not_fail_again_and_the_limit_is_told(tmp_path):
    output = train(
        tmp_path,
        *("--steps", "2", "--fail-once-at-step", "1"),
        LEPTOND_ATTEMPT="1",
        LEPTOND_RESUME="1",
        LEPTOND_DEADLINE=f"{time.time() + 3600:.3f}",
    ).stdout
    assert final(output)["step"] == 2
    assert re.search(r"time limit is in 3\d\d\d s", output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--no-such-option"], "unrecognized arguments"),
        (["--steps", "many"], "--steps"),
        (["--steps", "0"], "--steps: 0 is less than 1"),
        (["--slow", "nan"], "--slow"),
        (["--dropout", "1"], "--dropout"),
        (["--data-dir", "/no/such/place"], "there is no directory /no/such/place"),
        (["--data-dir", str(SCRIPT.parents[2] / "migrations")], "too little Python source"),
        (["--metrics-file", "/no/such/place/file"], "there is no directory /no/such/place"),
    ],
)
def test_mistakes_are_told_before_torch_is_imported(tmp_path, arguments, message):
    with start(tmp_path, *arguments, env={"PYTHONPROFILEIMPORTTIME": "1"}) as run:
        _, err = run.communicate(timeout=60)
    assert run.returncode == 2, err
    assert "import time" in err
    assert not re.search(r"\| +torch$", err, re.MULTILINE)
    assert message in err.splitlines()[-1]


def test_the_module_can_be_run_by_its_name():
    done = subprocess.run(
        [sys.executable, "-m", "leptond.demo.training", "--help"],
        cwd=SCRIPT.parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "--fail-once-at-step" in done.stdout


def test_the_text_is_of_whole_files_in_order_without_installed_ones(tmp_path):
    for name in ("b.py", "a.py", "c.txt", "inner/d.py", "site-packages/e.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"<{name}>")
    (tmp_path / "z.py").symlink_to("nowhere")
    (tmp_path / "f.py").write_bytes(b"\xff\xc3\xa9")
    assert read_text(tmp_path) == (b"<a.py>??<inner/d.py>", b"<b.py>")
    assert read_text(tmp_path / "site-packages") == (b"<site-packages/e.py>", b"")


RANK = """
import os, socket, time
place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
socket.create_connection(place).close()  # the store of its own torchrun
print("rank", os.environ["RANK"], "at", place[1], flush=True)
while not os.path.exists("go"):
    time.sleep(0.05)
"""


def test_two_torchruns_at_once_do_not_collide(daemon, tmp_path):
    """Plain torchrun, as jobs: each finds a port of its own in its environment."""
    (tmp_path / "rank.py").write_text(RANK)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    ids = [daemon.submit(*torchrun, "rank.py", gpus=2, cwd=str(tmp_path)) for _ in range(2)]
    ports = []
    for number in ids:  # all ranks of both, at the same time
        for rank in range(2):
            daemon.printed(number, f"rank {rank} at")
        ports.append(set(re.findall(r"rank \d at (\d+)", daemon.output(number))))
    (tmp_path / "go").touch()
    assert [daemon.finished(number)["state"] for number in ids] == ["succeeded"] * 2
    assert [len(found) for found in ports] == [1, 1]
    assert ports[0] != ports[1]


@pytest.mark.slow  # six processes import torch
def test_two_torchruns_train_at_once(daemon):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    argv = [*torchrun, str(SCRIPT), *SMALL, "--steps", "5"]
    ids = [daemon.submit(*argv, gpus=2, env={"OMP_NUM_THREADS": "1"}) for _ in range(2)]
    done = [daemon.finished(job) for job in ids]
    assert [job["state"] for job in done] == ["succeeded"] * 2, [daemon.output(job) for job in ids]
    assert all("2 ranks hold the same weights" in daemon.output(job) for job in ids)
