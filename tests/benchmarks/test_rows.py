"""The judgement of a benchmark's row."""

import pytest

from tests.benchmarks.rows import FLOOR, Row


def row(**values: object) -> Row:
    return Row(figure="gap", unit="ms", **{"leptond": (10.0, 8.0, 30.0), **values})  # type: ignore[arg-type]


def test_a_ratio_is_taken_run_by_run() -> None:
    # medians of the columns would say 10 / 4 = 2.5; the runs themselves say 5, 2 and 3
    one = row(floor=(2.0, 4.0, 10.0), against=FLOOR, bar=3.0, stretch=1.0)
    assert one.judged() == (5.0, 2.0, 3.0)
    assert one.result() == 3.0
    assert one.verdict() == "met"


@pytest.mark.parametrize(
    ("better", "bar", "stretch", "verdict"),
    [
        ("lower", 12.0, 10.0, "stretch"),
        ("lower", 12.0, 9.0, "met"),
        ("lower", 9.0, 5.0, "missed"),
        ("higher", 5.0, 10.0, "stretch"),
        ("higher", 5.0, 11.0, "met"),
        ("higher", 11.0, 20.0, "missed"),
        ("lower", None, None, "no bar"),
    ],
)
def test_the_median_is_held_against_bar_and_stretch(
    better: str, bar: float | None, stretch: float | None, verdict: str
) -> None:
    assert row(better=better, bar=bar, stretch=stretch).verdict() == verdict


def test_what_was_not_measured_is_skipped_and_never_met() -> None:
    assert row(leptond=(), bar=12.0).verdict() == "skipped"
    assert row(against="task-spooler", bar=2.0).verdict() == "skipped"
    assert row(against="task-spooler", bar=2.0).as_json()["result"] is None
