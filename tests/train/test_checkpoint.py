"""Checkpoints are whole or not there: one that is torn, cut short or rotten costs the steps since the one
before."""

import json
import random
import shutil
import subprocess
import sys
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from leptond.train.checkpoint import (  # noqa: E402
    MANIFEST,
    CheckpointError,
    Checkpoints,
    check,
    random_states,
    restore_random_states,
)


def state(step):
    return {"step": step, "weights": torch.full((64,), float(step)), "deep": [{"a": (1, "b", None)}]}


@pytest.fixture
def checkpoints(tmp_path):
    one = Checkpoints(tmp_path / "c", keep=2)
    yield one
    one.wait()


def test_what_was_saved_comes_back(checkpoints):
    told = []
    checkpoints.announce = told.append
    assert checkpoints.newest() is None
    for step in (10, 20, 30):
        checkpoints.save(step, state(step), background=step != 30)
    found = checkpoints.newest()
    assert (found.step, told) == (30, [10, 20, 30])
    back = checkpoints.load(found)
    assert torch.equal(back["weights"], state(30)["weights"])
    assert back["deep"] == state(30)["deep"]
    assert sorted(path.name for path in checkpoints.directory.iterdir()) == [
        "step-0000000020.0000",
        "step-0000000030.0000",
    ]


def test_a_copy_is_taken_before_the_training_goes_on(checkpoints):
    values = {"weights": torch.zeros(1 << 20)}
    checkpoints.save(1, values)
    values["weights"] += 1.0
    assert checkpoints.load(checkpoints.newest())["weights"].sum() == 0.0


def test_the_best_stays_and_a_later_generation_is_newer(checkpoints):
    for step, loss in ((10, 3.0), (20, 1.0), (30, 2.0), (40, float("nan")), (50, 2.5)):
        checkpoints.save(step, state(step), loss=loss, background=False)
    assert [one.step for one in checkpoints._listed()] == [20, 40, 50]
    checkpoints.save(20, state(20), generation=1, background=False)
    assert (checkpoints.newest().step, checkpoints.newest().generation) == (20, 1)
    assert checkpoints.newest(before=20).step == 20, "there is none before it"
    checkpoints.save(10, state(10), generation=0, background=False)
    assert checkpoints.newest(before=50).step == 20


DAMAGES = {
    "no manifest": lambda path: (path / MANIFEST).unlink(),
    "half a manifest": lambda path: (path / MANIFEST).write_bytes((path / MANIFEST).read_bytes()[:50]),
    "another step": lambda path: (path / MANIFEST).write_text(
        (path / MANIFEST).read_text().replace('"step": 20', '"step": 25')
    ),
    "a list": lambda path: (path / MANIFEST).write_text("[]"),
    "no state": lambda path: (path / "state.pt").unlink(),
    "half a state": lambda path: (path / "state.pt").write_bytes((path / "state.pt").read_bytes()[:300]),
    "a flipped bit": lambda path: flip(path / "state.pt"),
    "an empty directory": lambda path: (shutil.rmtree(path), path.mkdir()),
}


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_falls_back_to_the_one_before(checkpoints, damage, caplog):
    for step in (10, 20):
        checkpoints.save(step, state(step), background=False)
    newest = checkpoints.newest().path
    DAMAGES[damage](newest)
    assert check(newest) is not None
    found = checkpoints.newest()
    assert "going back to the one before" in caplog.text
    assert found.step == 10
    assert checkpoints.load(found)["step"] == 10
    # the training comes by there again, and writes over it
    checkpoints.save(20, state(20), background=False)
    assert checkpoints.newest().step == 20


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    checkpoints = Checkpoints(tmp_path / "file")
    with pytest.raises(CheckpointError, match="cannot make"):
        checkpoints.save(1, state(1), background=False)
    checkpoints.save(1, state(1))
    checkpoints.join()
    assert "the training goes on" in caplog.text
    with pytest.raises(CheckpointError, match="cannot make"):
        checkpoints.wait()
    checkpoints.wait()
    nowhere = Checkpoints(None)
    nowhere.save(1, state(1))
    assert nowhere.newest() is None


@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_at_any_line_of_a_save_leaves_a_whole_checkpoint(tmp_path, every):
    """A fork for every eleventh line that a save runs through (slow: for each of them), killed there."""
    directory = tmp_path / "c"
    checkpoints = Checkpoints(directory, keep=2)
    checkpoints.save(1, state(1), background=False)
    tries = _lines_of_a_save(tmp_path / "probe")
    assert tries > 50
    code = _FORKING.format(directory=str(directory), tries=tries, every=every)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)
    assert len(steps) == len(range(1, tries + 1, every))
    assert all(b - a in (0, 1) for a, b in pairwise(steps)), steps
    assert steps[-1] > steps[0]


_TRACE = """
import json, os, sys, torch
from leptond.train.checkpoint import Checkpoints

def save(directory, step, last_line):
    calls = 0
    def trace(frame, event, arg):
        nonlocal calls
        if not frame.f_code.co_filename.endswith("train/checkpoint.py"):
            return None
        if event == "line":
            calls += 1
            if calls == last_line:
                os.kill(os.getpid(), 9)
        return trace
    one = Checkpoints(directory, keep=2)
    sys.settrace(trace)
    one.save(step, dict(step=step, weights=torch.full((1000,), float(step))), background=False)
    sys.settrace(None)
    return calls
"""

_FORKING = (
    _TRACE
    + """
steps = []
for line in range(1, {tries} + 1, {every}):
    one = Checkpoints({directory!r}, keep=2)
    found = one.newest()
    assert one.load(found)["step"] == found.step
    steps.append(found.step)
    pid = os.fork()
    if pid == 0:
        save({directory!r}, found.step + 1, line)
        os._exit(0)
    os.waitpid(pid, 0)
print(json.dumps(steps))
"""
)


def _lines_of_a_save(directory):
    code = _TRACE + f"\nsave({str(directory)!r}, 1, 0)\nprint(save({str(directory)!r}, 2, 0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_random_numbers_go_on_where_they_were():
    numpy = pytest.importorskip("numpy")

    def draw():
        return random.random(), torch.rand(3).tolist(), numpy.random.rand(3).tolist()

    before = random_states()
    first = draw()
    restore_random_states(before)
    assert draw() == first
