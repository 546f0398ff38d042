"""The sweep benchmark with trials that train nothing: every trial runs once, and the last result ends it."""

import sys

import pytest

from tests.benchmarks import sweep
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import BEST, RAY, SLURM, SUBMITIT, TSP, XARGS
from tests.benchmarks.peers import missing
from tests.benchmarks.sweep import FRESH, NoJobs, Sweep
from tests.support.daemon import Daemon

SCRIPT = """\
import argparse, pathlib, time
parser = argparse.ArgumentParser()
for name in ("steps", "results", "lr", "width"):
    parser.add_argument("--" + name)
one = parser.parse_args()
with pathlib.Path(one.results, f"{one.lr}-{one.width}").open("x") as file:
    file.write(f"{time.time_ns()} {one.steps}\\n")
"""


@pytest.fixture
def small(tmp_path):
    """A sweep of four trials without torch."""
    (tmp_path / "trial.py").write_text(SCRIPT)
    script = tmp_path / "trial.py"
    made = Sweep(place=tmp_path, steps=7, rates=(0.1, 0.01), widths=(8, 16), script=script, slots=2)
    made.results.mkdir()
    return made


def all_ran(one):
    names = {"0.1-8", "0.1-16", "0.01-8", "0.01-16"}
    return {file.name: file.read_text().split()[1] for file in one.results.iterdir()} == dict.fromkeys(
        names, "7"
    )


def test_a_sweep_of_leptond_ends_with_its_last_result(small, daemon: Daemon):
    assert 0 < sweep.by_leptond(small, daemon) < sweep.PATIENCE_S
    assert all_ran(small)


def test_a_sweep_of_leptond_whose_trials_fail_does_not_wait(small, daemon: Daemon):
    small.script.write_text("raise SystemExit(3)")
    with pytest.raises(AssertionError, match="failed"):
        sweep.by_leptond(small, daemon)


@pytest.mark.parametrize("peer", [XARGS, TSP])
def test_a_sweep_of_a_peer_runs_every_trial(small, peer):
    if missing(peer):
        pytest.skip(missing(peer))
    assert 0 < sweep.PEERS[peer](small) < sweep.PATIENCE_S
    assert all_ran(small)


def test_a_peer_that_ends_without_all_results_is_an_error(small):
    small.script.write_text("import sys; sys.exit(0)")
    with pytest.raises(AssertionError, match="without all results"):
        sweep.by_xargs(small)


def test_after_the_first_run_the_quickest_that_imports_is_measured(monkeypatch, tmp_path):
    """The peers and leptond take what is written here."""
    seconds = {XARGS: [30.0, 28.0], TSP: [25.0, 35.0], SUBMITIT: [40.0], "by_fork.py": [2.0, 2.0]}
    left = {name: list(values) for name, values in seconds.items()}

    def no_jobs(_):
        raise NoJobs("Slurm runs no jobs here")

    def take(name):
        return lambda _: left[name].pop(0)

    peers = {name: take(name) for name in (XARGS, TSP, SUBMITIT)}
    monkeypatch.setattr(sweep, "PEERS", {**peers, SLURM: no_jobs})
    monkeypatch.setattr(sweep, "by_driver", lambda one, driver, python="": left[driver].pop(0))
    monkeypatch.setattr(sweep, "by_leptond", lambda one, daemon: 4.0 if daemon == "fresh" else 2.5)
    monkeypatch.setattr(Bench, "lacks", lambda self, peer: "no Ray Tune" if peer == RAY else "")
    rows = sweep.rows_of(
        Bench(place=tmp_path, runs=2),
        "short",
        1,
        warm=lambda *_: _given("warm"),
        fresh=lambda _: _given("fresh"),
    )
    against_best, against_ray = rows
    assert against_best.leptond == (2.5, 2.5)
    assert against_best.peers[BEST] == (25.0, 35.0)
    assert against_best.judged() == (10.0, 14.0)
    assert against_best.peers[XARGS] == (30.0,)
    assert against_best.peers[TSP] == (25.0, 35.0)
    assert against_best.peers[FRESH] == (4.0,)
    assert against_best.note == "Slurm runs no jobs here"
    assert (against_ray.verdict(), against_ray.note) == ("skipped", "no Ray Tune")


class _given:
    """A context that gives this."""

    def __init__(self, value):
        self.value = value

    def __enter__(self):
        return self.value

    def __exit__(self, *_):
        return None


def test_the_trial_trains_and_leaves_its_result(tmp_path):
    pytest.importorskip("torch")
    from tests.benchmarks.trials import trial

    threads = sys.modules["torch"].get_num_threads()
    try:
        worse = trial.train(1, 0.01, 16)
        trial.main(["--steps", "60", "--results", str(tmp_path), "--lr", "0.01", "--width", "16"])
    finally:
        sys.modules["torch"].set_num_threads(threads)
    (file,) = tmp_path.iterdir()
    assert file.name == "0.01-16"
    assert float(file.read_text().split()[1]) < worse
