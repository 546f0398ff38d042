"""The benchmarks' arithmetic and documents."""

import json
import math
import sys
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest

from tests.benchmarks import show
from tests.benchmarks.__main__ import measure
from tests.benchmarks.compare import ROOT, interval, overlay, summary, unmatched, writes_rows
from tests.benchmarks.jobs import gaps, stamps
from tests.benchmarks.rows import FLOOR, Row, row_of
from tests.benchmarks.submits import CLIENTS, clients
from tests.support.daemon import Daemon

ROWS = [
    Row(figure="gap < floor & more", unit="ms", leptond=(3.0,), floor=(1.0,), against=FLOOR, bar=2.5),
    Row(figure="rate", unit="jobs/s", leptond=(900.0,), bar=200.0, stretch=600.0, better="higher"),
    Row(figure="nobody here", unit="ms", leptond=(3.0,), against="slurm", bar=1.0, note="not installed"),
]  # fmt: skip


def test_gaps_are_from_the_end_of_a_job_to_the_beginning_of_the_next(tmp_path):
    file = tmp_path / "stamps"
    assert stamps(file) == []
    file.write_text("1000000\n2000000\n5000000\n6000000\n7500000\n8000000\n9000000\n")
    assert stamps(file) == [(1.0, 2.0), (5.0, 6.0), (7.5, 8.0)]
    assert gaps(file) == [3.0, 1.5]


def test_the_chart_shows_what_was_measured_and_is_xml():
    drawn = ET.fromstring(show.chart(ROWS))
    texts = "".join(drawn.itertext())
    assert "gap < floor & more" in texts
    assert "nobody here" not in texts
    circles = drawn.findall("{http://www.w3.org/2000/svg}circle")
    assert [circle.get("fill") for circle in circles] == [show.COLORS["missed"], show.COLORS["stretch"]]
    bar_at = show._x(0)
    assert float(circles[0].get("cx")) < bar_at < float(circles[1].get("cx"))  # to the right is better


def test_the_documentation_takes_table_and_chart_in(tmp_path):
    page, chart = tmp_path / "page.md", tmp_path / "chart.svg"
    page.write_text(f"before\n{show.BEGIN}\nold\n{show.END}\nafter\n")
    show.document(page, chart, ROWS, 5, show.machine())
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| rate | jobs/s | 900 |  |  |  | ≥ 200 | ≥ 600 | 900 | stretch |" in text
    assert "medians of 5 runs" in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no"):
        show.document(page, chart, ROWS, 5, show.machine())


def test_rows_come_back_from_what_was_written():
    assert [row_of(json.loads(json.dumps(row.as_json()))) for row in ROWS] == ROWS


def test_a_ratio_has_an_interval_that_its_pairs_deserve():
    ratio, low, high = interval([1.1, 1.1, 1.1])
    assert ratio == pytest.approx(low) == pytest.approx(high) == pytest.approx(1.1)
    ratio, low, high = interval([0.5, 2.0, 1.0])
    assert ratio == pytest.approx(1.0)
    assert low < 0.5 < 2.0 < high  # three pairs that disagree so much show nothing
    assert interval([2.0]) == (pytest.approx(2.0), 0.0, math.inf)


def test_a_difference_is_only_claimed_outside_of_the_interval():
    pairs = [({"gap": 2.0, "rest": 1.0}, {"gap": 3.0, "rest": value}) for value in (0.9, 1.1, 1.0)]
    pairs.append(({"gap": 2.1, "rest": 1.0, "only one": 1.0}, {"gap": 3.1, "rest": 1.02}))
    assert [(row["figure"], row["word"]) for row in summary(pairs)] == [
        ("gap", "higher"),
        ("rest", "no difference seen"),
    ]


def test_figures_of_one_commit_alone_are_named():
    measured = [
        ({"gap": 1.0, "old": 1.0}, {"gap": 1.0, "new": 1.0}),
        ({"gap": 1.0, "old": 1.0}, {"gap": 2.0}),
    ]
    assert unmatched(measured) == ["new", "old"]
    assert unmatched([({"gap": 1.0}, {"gap": 2.0})]) == []


def test_a_commit_runs_its_own_benchmarks_if_they_write_rows(tmp_path):
    assert writes_rows(ROOT)
    assert not writes_rows(tmp_path)
    (tmp_path / "tests" / "benchmarks").mkdir(parents=True)
    main = tmp_path / "tests" / "benchmarks" / "__main__.py"
    main.write_text("print('older benchmarks, for people only')\n")
    assert not writes_rows(tmp_path)
    overlay(tmp_path)
    assert writes_rows(tmp_path)
    assert (tmp_path / "tests" / "support" / "daemon.py").exists()


def test_the_clients_of_the_submit_benchmark_submit_what_they_say(daemon: Daemon):
    job = {"argv": ["true"], "hold": True}
    assert clients(daemon, "/v1/jobs", job, 2 * CLIENTS + 1) > 0
    assert clients(daemon, "/v1/jobs:batch", {"jobs": [job] * 10}, 3) > 0
    assert daemon.get("/v1/status").json["held"] == 2 * CLIENTS + 1 + 30


def test_a_part_that_fails_is_told_and_the_others_are_measured(monkeypatch, tmp_path, capsys):
    def run(place, runs):
        assert place.is_dir()
        return ROWS[:runs]

    def broken(place, runs):
        raise OSError("no room")

    for name, part in (("good", run), ("bad", broken)):
        monkeypatch.setitem(sys.modules, f"tests.benchmarks.{name}", SimpleNamespace(run=part))
    written = []
    rows, failed = measure(["bad", "good"], 2, lambda rows, failed: written.append((len(rows), len(failed))))
    assert written == [(0, 1), (2, 1)]
    assert rows == ROWS[:2]
    assert failed == {"bad": "OSError: no room"}
    assert "no room" in capsys.readouterr().err
