"""The benchmarks' arithmetic and documents."""

import importlib
import json
import math
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.benchmarks import document, show
from tests.benchmarks.__main__ import PARTS, Results, measure
from tests.benchmarks.bench import Bench
from tests.benchmarks.compare import ROOT, interval, knows_loads, overlay, summary, unmatched
from tests.benchmarks.figures import FIGURES, row
from tests.benchmarks.jobs import gaps, stamps
from tests.benchmarks.load import Load
from tests.benchmarks.rows import FLOOR, Row, row_of
from tests.benchmarks.submits import CLIENTS, clients
from tests.support.daemon import Daemon

ROWS = [
    Row(figure="gap < floor & more", unit="ms", leptond=(3.0,), floor=(1.0,), against=FLOOR, bar=2.5),
    Row(figure="rate", unit="jobs/s", leptond=(900.0,), bar=200.0, stretch=600.0, better="higher"),
    Row(figure="nobody here", unit="ms", leptond=(3.0,), against="Slurm", bar=1.0, note="not installed"),
]  # fmt: skip
BUSY = Row(
    figure="rate", load="busy", unit="jobs/s", leptond=(300.0,), peers={"tsp": (9.0,)}, better="higher"
)


def test_gaps_are_from_the_end_of_a_job_to_the_beginning_of_the_next(tmp_path):
    file = tmp_path / "stamps"
    assert stamps(file) == []
    file.write_text("1000000\n2000000\n5000000\n6000000\n7500000\n8000000\n9000000\n")
    assert stamps(file) == [(1.0, 2.0), (5.0, 6.0), (7.5, 8.0)]
    assert gaps(file) == [3.0, 1.5]


def test_the_chart_shows_what_was_measured_quiet_and_busy_and_is_xml():
    drawn = ET.fromstring(document.chart([*ROWS, BUSY], "1.2"))
    texts = "".join(drawn.itertext())
    assert "gap < floor & more" in texts
    assert "nobody here" not in texts
    circles = drawn.findall("{http://www.w3.org/2000/svg}circle")
    colors = [document.COLORS["missed"], document.COLORS["stretch"], "none"]
    assert [circle.get("fill") for circle in circles] == colors
    gap, rate, busy = (float(circle.get("cx")) for circle in circles)
    assert gap < document._x(0) < busy < rate  # to the right is better
    assert circles[1].get("cy") == circles[2].get("cy")


def test_the_documentation_takes_table_and_chart_in(tmp_path):
    page, chart = tmp_path / "page.md", tmp_path / "chart.svg"
    page.write_text(f"before\n{document.BEGIN}\nold\n{document.END}\nafter\n")
    document.write(page, chart, [BUSY, *ROWS], show.machine(), "1.2")
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    quiet = "| rate | quiet | jobs/s | 900 |  | ≥ 200 | ≥ 600 | 900 | stretch |\n"
    assert quiet + "|  | busy |  | 300 | tsp 9.00 |  |  | 300 | no bar |\n" in text
    assert "medians of 1 run on" in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no"):
        document.write(page, chart, ROWS, show.machine(), "1.2")


def test_rows_come_back_from_what_was_written():
    rows = [*ROWS, BUSY]
    assert [row_of(json.loads(json.dumps(row.as_json()))) for row in rows] == rows
    older = {name: value for name, value in BUSY.as_json().items() if name not in ("load", "times_sooner")}
    assert row_of(older) == replace(BUSY, load="quiet")


def test_results_of_several_goes_are_put_together(tmp_path):
    files = [tmp_path / name for name in ("1.json", "2.json")]
    first = Results(
        rows=[ROWS[0], BUSY], seconds={"gap": 2.0}, machine={"cpu": "this"}, spinning={"gap": 0.5}
    )
    second = Results(rows=ROWS[:2], seconds={"gap": 3.0}, failed={"drain": "no room"}, machine={})
    for file, results in zip(files, (first, second), strict=True):
        file.write_text(json.dumps(results.as_json()))
    found = Results.of(files)
    assert found.rows == [replace(ROWS[0], leptond=(3.0, 3.0), floor=(1.0, 1.0)), BUSY, ROWS[1]]
    assert (found.seconds, found.failed, found.spinning) == ({"gap": 5.0}, {"drain": "no room"}, {"gap": 0.5})
    assert found.machine == {"cpu": "this"}


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


def test_a_commit_runs_its_own_benchmarks_if_they_know_loads(tmp_path):
    assert knows_loads(ROOT)
    assert not knows_loads(tmp_path)
    (tmp_path / "tests" / "benchmarks").mkdir(parents=True)
    main = tmp_path / "tests" / "benchmarks" / "__main__.py"
    main.write_text("parser.add_argument('--out')\n")
    assert not knows_loads(tmp_path)
    overlay(tmp_path)
    assert knows_loads(tmp_path)
    assert (tmp_path / "tests" / "support" / "daemon.py").exists()


def test_the_clients_of_the_submit_benchmark_submit_what_they_say(daemon: Daemon):
    job = {"argv": ["true"], "hold": True}
    assert clients(daemon, "/v1/jobs", job, 2 * CLIENTS + 1) > 0
    assert clients(daemon, "/v1/jobs:batch", {"jobs": [job] * 10}, 3) > 0
    assert daemon.get("/v1/status").json["held"] == 2 * CLIENTS + 1 + 30


def test_a_part_that_fails_is_told_and_the_others_are_measured(monkeypatch, tmp_path, capsys):
    def run(bench):
        assert bench.place.is_dir()
        return [row("drain", bench.load, [1.0] * bench.runs)]

    def broken(bench):
        raise OSError("no room")

    for name, part in (("good", run), ("bad", broken)):
        monkeypatch.setitem(sys.modules, f"tests.benchmarks.{name}", SimpleNamespace(run=part))
    written = []
    results = measure(
        ["bad", "good"],
        ("quiet",),
        lambda place, load: Bench(place=place, runs=2, load=load),
        lambda results: written.append((len(results.rows), len(results.failed))),
    )
    assert written == [(0, 1), (1, 1)]
    assert [row.leptond for row in results.rows] == [(1.0, 1.0)]
    assert results.failed == {"bad": "OSError: no room"}
    assert set(results.seconds) == {"bad", "good"}
    assert "no room" in capsys.readouterr().err


def test_every_figure_has_a_name_of_its_own_and_a_stretch_beyond_its_bar():
    names = [figure.name for figure in FIGURES.values()]
    assert len(set(names)) == len(names)
    for figure in FIGURES.values():
        for bar, stretch in ((figure.bar, figure.stretch), (figure.busy_bar, figure.busy_stretch)):
            if bar is not None and stretch is not None:
                assert stretch < bar if figure.better == "lower" else stretch > bar, figure.name


def test_the_bar_of_a_row_is_that_of_its_load():
    quiet, busy = (row("gap_tsp", Load(name), [2.0]) for name in ("quiet", "busy"))
    assert (quiet.load, quiet.bar, busy.load, busy.bar) == ("quiet", 1.0, "busy", 1.2)
    assert row("gap", Load("busy"), [2.0]).bar is None


def test_all_parts_are_there():
    for part in PARTS:
        assert callable(getattr(importlib.import_module(f"tests.benchmarks.{part}"), "run", None)), part
