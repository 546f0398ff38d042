"""The bookkeeping of campaigns: nothing that was tried is forgotten, nothing is counted twice."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import report
from tests.faults.campaign import ROOT, Campaign, Found, Outcome, bound95, discover, run_trials


def steady(dice: random.Random, place: Path) -> Found:
    """Fails on about a third of all trials."""
    roll = dice.random()
    assert roll > 1 / 3, f"rolled {roll:.3f}"
    return Found(count=2, figures={"rolls": 1}, notes={"half": "upper" if roll > 0.66 else "lower"})


def test_the_bound_is_the_rule_of_three_then_clopper_pearson():
    assert bound95(0, 1000) == 0.003
    assert bound95(0, 2) == 1.0
    assert bound95(5, 5) == 1.0
    # the tables of one-sided 95% limits: 1 of 10, 2 of 100, 10 of 100
    assert bound95(1, 10) == pytest.approx(0.3942, abs=1e-4)
    assert bound95(2, 100) == pytest.approx(0.0616, abs=1e-4)
    assert bound95(10, 100) == pytest.approx(0.1637, abs=1e-4)


def test_a_seed_repeats_its_campaign_whatever_the_order(tmp_path):
    one = run_trials(steady, 40, 7, tmp_path / "one")
    two = run_trials(steady, 40, 7, tmp_path / "two", parallel=4)
    assert one == two
    assert 0 < one.failures < 40
    assert one.trials == 2 * (40 - one.failures) + one.failures
    assert one.figures["half"]["upper"] + one.figures["half"]["lower"] == one.figures["rolls"]
    assert one.first_failure_seed is not None
    first = int(one.first_failure_seed.partition("/")[2])
    with pytest.raises(AssertionError, match="rolled"):
        steady(random.Random(one.first_failure_seed), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "one" / "trials.jsonl").read_text().splitlines()]
    assert first == next(line["index"] for line in lines if line["failures"])
    assert "rolled" in lines[first]["why"]


def test_a_larger_campaign_goes_on_with_the_smaller_one(tmp_path):
    tried = []

    def one(dice: random.Random, place: Path) -> Found:
        tried.append(place)
        return Found()

    run_trials(one, 5, 1, tmp_path)
    assert run_trials(one, 8, 1, tmp_path).trials == 8
    assert len(tried) == 8
    assert run_trials(one, 8, 2, tmp_path).trials == 8, "another seed is another campaign"
    assert len(tried) == 16


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.faults.campaign import Found, run_trials
def one(dice, place):
    with open(sys.argv[2], "a") as file:
        print(f"{dice.random():.6f}", file=file)
    if sys.argv[3] == "kill" and len(open(sys.argv[2]).readlines()) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return Found()
print(run_trials(one, 6, 1, Path(sys.argv[1])).trials)
"""


def test_a_killed_campaign_goes_on_and_loses_one_trial_at_most(tmp_path):
    book, tried = tmp_path / "book", tmp_path / "tried"

    def run(what: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", KILLED, str(book), str(tried), what]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)

    assert run("kill").returncode == -signal.SIGKILL
    with (book / "trials.jsonl").open("a") as file:
        file.write('{"index": 3, "seed"')  # a line that the kill tore
    again = run("go on")
    assert again.stdout == "6\n", again.stderr
    rolls = tried.read_text().split()
    assert len(rolls) == 7
    assert rolls[3] == rolls[4], "the trial in flight is tried again, with the same chances"
    assert len(set(rolls)) == 6


def test_a_failed_trial_leaves_its_files(tmp_path):
    def one(dice: random.Random, place: Path) -> Found:
        (place / "evidence").write_text("here")
        raise AssertionError("broken")

    outcome = run_trials(one, 1, 1, tmp_path)
    assert (outcome.trials, outcome.failures) == (1, 1)
    assert (tmp_path / "failed-0" / "evidence").read_text() == "here"


def test_the_report_has_a_line_for_each_campaign(tmp_path, monkeypatch, capsys):
    def fine(trials: int, seed: int, workdir: Path) -> Outcome:
        return run_trials(lambda dice, place: Found(), trials, seed, workdir)

    def broken(trials: int, seed: int, workdir: Path) -> Outcome:
        return run_trials(steady, trials, seed, workdir)

    known = [
        Campaign(promise="P2", name="fine", title="Fine", short=3, full=30, run=fine),
        Campaign(promise="P3", name="long", title="Long", short=0, full=30, run=fine),
        Campaign(promise="P10 P11", name="broken", title="Broken", short=20, full=30, run=broken),
    ]
    monkeypatch.setattr(report, "discover", lambda: known)
    out = tmp_path / "report.jsonl"
    assert report.main(["--out", str(out)]) == 1
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["promise"], line["failures"] > 0) for line in lines] == [("P2", False), ("P10 P11", True)]
    assert (lines[0]["trials"], lines[0]["bound95"]) == (3, 1.0)
    assert lines[1]["first_failure_seed"].startswith("1/")
    assert "fault campaigns at" in capsys.readouterr().out
    # one promise alone, larger: the other's line stays
    assert report.main(["--out", str(out), "--only", "P2", "--size", "10", "--resume"]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["name"]: line["trials"] for line in lines}["fine"] == 10
    assert len(lines) == 2


def test_bad_options_are_refused(capsys):
    for options in (["--size", "huge"], ["--only", "P999"]):
        with pytest.raises(SystemExit) as refused:
            report.main(options)
        assert refused.value.code == 2


def test_the_docs_quote_the_report_and_nothing_else():
    text = (ROOT / "docs" / "reliability.md").read_text()
    quoted = text.partition("<!-- figures -->\n")[2].partition("<!-- end of figures -->")[0].strip()
    lines = (ROOT / "docs" / "reliability.jsonl").read_text().splitlines()
    assert quoted == report.markdown([json.loads(line) for line in lines])


def test_every_campaign_can_be_found():
    names = [one.name for one in discover()]
    assert len(names) == len(set(names))
